"""Throughput of a training job, level by level."""
