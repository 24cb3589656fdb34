"""Real images that come with medseg, to try it on."""
