"""Driving tasks that torch alone simulates."""
