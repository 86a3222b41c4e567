"""Flying tasks that torch alone simulates."""
