"""Capabilities of a machine: simulation, drawing, metering and power control, with remedies for gaps."""
