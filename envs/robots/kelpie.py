"""Kelpie, the embedded robot dog: what its MJCF does not say."""

from __future__ import annotations

from pathlib import Path

from factory.envs.robots.quadruped import QuadrupedParameters

MJCF = Path(__file__).with_name("kelpie.xml")
PARAMETERS = QuadrupedParameters(feet=("FL_foot", "FR_foot", "RL_foot", "RR_foot"))
