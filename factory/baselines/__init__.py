"""Baselines: controllers that are not learned, against which a trained policy is compared.

A task lists its own in `TaskConfig.baselines`, name -> `module:Class`; `zero` and `random` fit every task
with continuous actions. `python -m factory.evaluate task=... baseline=NAME` plays one.
"""
