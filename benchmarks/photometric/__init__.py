"""How far photometric stereo can be believed, on simulated people; commands of their own, not part of `make bench`."""
