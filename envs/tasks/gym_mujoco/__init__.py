"""Gymnasium's eleven MuJoCo tasks, version 5, many worlds at a time: same models, observations and rewards."""
