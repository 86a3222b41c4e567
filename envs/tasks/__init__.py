"""Tasks by family."""
