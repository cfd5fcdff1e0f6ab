"""The Faust application: the only package that knows Faust."""
