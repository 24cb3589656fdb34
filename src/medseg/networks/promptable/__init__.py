"""Networks that segment what they are pointed at: one file, one architecture."""
