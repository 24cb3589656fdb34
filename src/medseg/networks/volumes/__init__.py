"""Networks of volumes, and of both images and volumes: one file, one architecture."""
