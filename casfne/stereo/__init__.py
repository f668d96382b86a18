"""Photometric stereo: lights and their files, captures, solvers, trust."""
