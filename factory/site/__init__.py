"""Projection of measured lines to a data centre."""
