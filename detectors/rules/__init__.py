"""Rule detectors, one file each; a file's name is the detector's id."""
