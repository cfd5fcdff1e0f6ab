"""Learning detectors, one file each."""
