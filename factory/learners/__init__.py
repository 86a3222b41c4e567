"""Learners: `update(rollout)` improves a policy. Importing this registers them, and loads no torch."""

from factory.learners.ppo_config import PpoConfig
from factory.registry import register_learner

register_learner(PpoConfig)
