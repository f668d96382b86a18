"""Figures and the web page."""
