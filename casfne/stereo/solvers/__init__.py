"""Solvers of photometric stereo, by name; each has one file and one interface, see `base`."""
