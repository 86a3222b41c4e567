"""Benchmarks with frozen episodes, played by a policy or a baseline: `factory.evaluate suite=NAME`."""

SUITES = {"amr-v1": "factory.suites.amr:AmrV1", "traffic-v1": "factory.suites.traffic:TrafficV1"}
"""Suites by name, as `module:Class`, a class derived from `factory.suites.base.Suite`."""
