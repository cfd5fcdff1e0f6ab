"""Where packets come from: one file per kind of source."""
