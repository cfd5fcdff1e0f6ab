"""Compiled loops over columns: the only code that runs once per row, key or pair.

Each is a plain function of arrays. Callers guarantee what a loop relies on (lengths, ranges of indices): nothing in
here checks bounds, so whatever comes from outside is checked where it is decoded.
"""
