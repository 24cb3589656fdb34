"""Networks for 2D images."""
