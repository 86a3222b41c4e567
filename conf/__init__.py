"""Hydra configuration of the production line."""
