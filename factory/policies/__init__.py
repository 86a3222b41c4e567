"""Policies: networks that map observations to actions. Importing this registers them, and loads no torch."""

from factory.policies.mlp_config import MlpPolicyConfig
from factory.registry import register_policy

# The settings alone: `build` imports the networks, and torch with them.
register_policy(MlpPolicyConfig)
