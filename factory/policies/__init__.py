"""Policies: actor-critics that map observations to actions, values and log-probabilities."""
