"""Kelpie, the embedded robot dog: what its MJCF does not say."""

from __future__ import annotations

from pathlib import Path

from factory.envs.robots.sources import QuadrupedParameters

MJCF = Path(__file__).with_name("kelpie.xml")
PARAMETERS = QuadrupedParameters(kp=80.0, damping=0.8, servo_damping=0.6, armature=0.01)
