"""casfne: surface normals of faces, from one image, at corpus scale."""

__version__ = "0.1.0"
