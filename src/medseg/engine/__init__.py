"""The one training loop: devices, precision, distribution, checkpoints, resume, logging."""
