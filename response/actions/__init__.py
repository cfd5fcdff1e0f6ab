"""Containment actions, one module each; the listing of this directory is the registry."""
