"""Labelling corpora: a batch of images to rows, and the fleet that runs it."""
