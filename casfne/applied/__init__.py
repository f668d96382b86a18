"""What normals are for: shading, relighting, geometry."""
