"""Cameras and lenses: projection, rasteriser, framing, degradations, backgrounds."""
