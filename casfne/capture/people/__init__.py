"""Whose heads: models, identity, expression, looks and fine relief."""
