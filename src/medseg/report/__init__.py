"""Showing what a model does: contours, a terminal table, one HTML file."""
