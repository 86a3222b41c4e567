"""Pieces that several tasks share: rotations, commands, rewards, randomisation."""
