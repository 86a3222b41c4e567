"""Projection of runs or a floor to a data centre."""
