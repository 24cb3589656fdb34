"""Datasets: reading them in place, checking them and splitting them."""
