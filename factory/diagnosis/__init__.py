"""What a machine can simulate on, draw, measure and actuate, and what to do about what is missing."""
