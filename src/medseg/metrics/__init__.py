"""How good a segmentation is: per case, per class and with an interval."""
