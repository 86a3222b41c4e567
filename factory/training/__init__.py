"""A training job and its loop."""
