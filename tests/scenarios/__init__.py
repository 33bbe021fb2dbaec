"""Stories that people would tell: whole clients against a real server on real sockets."""
