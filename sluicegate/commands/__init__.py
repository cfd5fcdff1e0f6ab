"""One file per command; each function is the command."""
