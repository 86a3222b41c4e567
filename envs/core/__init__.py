"""The base of every environment: episodes, observations, settings and conformance."""
