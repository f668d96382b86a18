"""How good a predictor is on real faces; commands of their own, not part of `make bench`."""
