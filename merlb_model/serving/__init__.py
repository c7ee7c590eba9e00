"""Export, scoring and serving. The package itself imports nothing: the client must run without TensorFlow."""
