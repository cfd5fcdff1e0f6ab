"""Languages in which a containment is written, one module each; the listing of this directory is the registry."""
