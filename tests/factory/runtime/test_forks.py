"""Forked processes leave alone what they inherit."""

from __future__ import annotations

import gc
import multiprocessing
import sys
from typing import Any

import mujoco
import pytest
import torch

from factory.envs.physics import open_physics

WORLD = '<mujoco><worldbody><body><freejoint/><geom size="1"/></body></worldbody></mujoco>'


@pytest.mark.skipif(sys.platform == "win32", reason="processes are not forked")
def test_forked_process_ends_although_it_inherits_an_engine_that_nobody_holds() -> None:
    """It never waits for the engine's threads, which only its parent has."""
    model = mujoco.MjModel.from_xml_string(WORLD)
    physics = open_physics("mujoco", model, num_envs=2, device=torch.device("cpu"), num_threads=2)
    physics.step(1)
    cycle: list[Any] = [physics]
    cycle.append(cycle)
    gc.disable()
    try:
        del physics, cycle
        child = multiprocessing.get_context("fork").Process(target=gc.collect)
        child.start()
    finally:
        gc.enable()
    try:
        child.join(60.0)
        assert child.exitcode == 0
    finally:
        child.kill()
        child.join(60.0)
