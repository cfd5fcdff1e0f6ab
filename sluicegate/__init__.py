"""The command line: one file per command, composition only; nothing imports it."""
