"""Evaluation: angular error by stage."""
