"""Gymnasium's eleven MuJoCo tasks, version 5, batched: the same models, observations and rewards."""
