"""From a trained model and a file to a mask."""
