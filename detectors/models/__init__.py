"""Learned detectors: one module per model, found by its name."""
