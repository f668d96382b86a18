"""How far photometric stereo can be believed: tables, made by `python -m benchmarks.photometric`."""
