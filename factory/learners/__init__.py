"""Learners: `update(rollout) -> UpdateStats`."""
