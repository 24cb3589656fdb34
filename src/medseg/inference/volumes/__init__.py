"""From a network of volumes and a file to a mask on the file's own grid."""
