"""Faces under known lights: head geometry, rasteriser, shading, sessions on disk."""
