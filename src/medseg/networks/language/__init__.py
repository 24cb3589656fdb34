"""Networks that segment what words say: one file, one architecture."""
