"""medseg: from a folder of medical images and masks to a small segmentation model."""

__version__ = "0.1.0"
