"""Mobile robots that navigate among obstacles."""
