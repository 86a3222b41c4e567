"""Hydra configuration of training jobs."""
