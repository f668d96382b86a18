"""Training: data set, losses, loop."""
