"""Models behind HTTP: bodies are read within limits, decoded in a child process, computed by a few
threads."""
