"""Policies: networks that map observations to actions. Importing this registers them, and loads no torch."""

from factory.policies.mlp_config import MlpPolicyConfig
from factory.registry import register_policy

register_policy(MlpPolicyConfig)
