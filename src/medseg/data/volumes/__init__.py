"""Volumes as volumes: read at their own precision, normalised, resampled."""
