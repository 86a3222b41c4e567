"""Compiled scans and distances are those of MuJoCo's rays and of torch."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from factory.envs.tasks.amr import dock_table
from factory.envs.tasks.amr.course import Course
from factory.envs.tasks.amr.dock import AmrDock
from factory.envs.tasks.amr.fleet import AmrFleet
from factory.envs.tasks.amr.lidar import CastRays, Lidar, PhysicsRays
from factory.envs.tasks.amr.mobile_robots import MobileRobots
from factory.envs.tasks.amr.navigate import AmrNavigate
from factory.envs.tasks.amr.obstacles import Boxes, gaps
from factory.envs.tasks.amr.robot import NUM_BEAMS, RANGE_M
from factory.envs.tasks.amr.table import SETS, draw_table
from factory.kernels.scans import Noise

KINDS = ("test", "dense", "dynamic", "large", "maze", "dock")
"""Sets of episodes that together have all kinds of halls, numbers of movers and sizes."""


def make(name: str, num_envs: int = 64) -> AmrNavigate:
    """Return worlds with halls of a set; few halls, since those are soon drawn."""
    kind = AmrNavigate
    recipe = SETS.get(name)
    if name == "dock":
        kind = AmrDock
        recipe = dock_table.SETS["test"]
    assert recipe is not None
    course = Course(draw_table(replace(recipe, halls=8)), torch.device("cpu"))
    task = type("Task", (kind,), {"_open_course": lambda self: course})
    env = task(num_envs=num_envs, episodes="test", num_threads=1, seed=0)
    env.reset(seed=0)
    return env


def noise(num_envs: int, dropout: float = 0.1) -> Noise:
    """Return noise with lost beams."""
    generator = torch.Generator().manual_seed(1)
    normal = torch.randn(num_envs, NUM_BEAMS, generator=generator)
    chance = torch.rand(num_envs, NUM_BEAMS, generator=generator)
    return Noise(normal, chance, 0.02, dropout)


def both(env: MobileRobots, pose: Tensor, cast_rays: CastRays) -> tuple[Lidar, Lidar]:
    """Return lidars that scanned twice with the kernel and with rays; at first, half of the worlds begin."""
    scanned = []
    for obstacles in (env._obstacles(), None):
        lidar = Lidar(cast_rays, num_envs=len(pose), device=pose.device)
        lidar.scans.fill_(1.0)
        begins = torch.arange(len(pose)) % 2 == 0
        lidar.refresh(pose, begins=begins, noise=noise(len(pose)), obstacles=obstacles)
        # The others have not changed since then.
        lidar.stale[::3] = True
        moved = pose + torch.tensor([0.1, -0.1, 0.2])
        lidar.refresh(moved, begins=~begins, noise=noise(len(pose), 0.0), obstacles=obstacles)
        scanned.append(lidar)
    return scanned[0], scanned[1]


def poses(num_envs: int, size_m: float) -> Tensor:
    """Return poses anywhere in a hall, inside of boxes and movers too, with headings of several turns."""
    share = torch.rand(num_envs, 3, generator=torch.Generator().manual_seed(2))
    return torch.cat([0.1 + (size_m - 0.3) * share[:, :2], 40.0 * share[:, 2:] - 20.0], -1)


@pytest.mark.parametrize("name", KINDS)
def test_scans_are_those_of_the_engine(name: str) -> None:
    """In every kind of hall, ranges and scans are those of MuJoCo's rays."""
    env = make(name)
    compiled, cast = both(env, poses(env.num_envs, env.size_m), PhysicsRays(env.physics))
    assert float(cast.ranges.min()) < 1.0 and float(cast.ranges.max()) > 3.0
    torch.testing.assert_close(compiled.ranges, cast.ranges, atol=1e-5, rtol=0.0)
    torch.testing.assert_close(compiled.scans, cast.scans, atol=1e-5, rtol=0.0)
    assert not compiled.stale.any()


def test_scans_are_those_of_torch_rays() -> None:
    """Among the robots of a fleet, ranges are those of the rays that torch casts."""
    env = AmrFleet(num_envs=64, num_maps=4, seed=0)
    env.reset(seed=0)
    compiled, cast = both(env, poses(env.num_envs, env.size_m), env._cast_rays)
    # Beams that begin inside of an obstacle end where it ends, or at once.
    outside = cast.ranges.amin(-1) > 0.0
    assert outside.sum() > 30
    torch.testing.assert_close(compiled.ranges[outside], cast.ranges[outside], atol=1e-4, rtol=0.0)


def test_pose_that_is_not_a_number_meets_nothing() -> None:
    """Such a row harms no other."""
    env = make("test", 4)
    pose = env.pose.clone()
    pose[1] = math.nan
    pose[2, 2] = math.nan
    lidar, _ = both(env, pose, PhysicsRays(env.physics))
    exact, _ = both(env, env.pose, PhysicsRays(env.physics))
    assert torch.equal(lidar.ranges[[0, 3]], exact.ranges[[0, 3]])
    assert float(exact.ranges.max()) <= RANGE_M


def test_gaps_are_those_of_torch() -> None:
    """Distances and normals inside and outside of boxes, and at walls, are the same."""
    env = make("test")
    points = poses(64 * 50, env.size_m)[:, :2].view(64, 50, 2)
    compiled = gaps(points, env.boxes, size_m=env.size_m, compiled=True)
    plain = gaps(points, env.boxes, size_m=env.size_m)
    assert float(plain.distance.min()) < 0.0 < float(plain.distance.max())
    assert torch.equal(compiled.distance, plain.distance)
    assert torch.equal(compiled.normal, plain.normal)


def test_nearest_corner_is_not_the_nearest_face() -> None:
    """Of two boxes, the one with the nearer corner counts, though a face of the other comes closer."""
    boxes = Boxes.of(torch.tensor([[[3.0, 3.0, 1.0, 1.0, 1.0, 0.0], [7.5, 5.0, 1.3, 1.0, 1.0, 0.0]]]))
    # From (5, 5): 1 m beyond both faces of the first box, and 1.2 m beyond one face of the second.
    for compiled in (False, True):
        gap = gaps(torch.tensor([[[5.0, 5.0]]]), boxes, size_m=10.0, compiled=compiled)
        assert float(gap.distance) == pytest.approx(1.2)


def test_steps_are_the_same_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Observations and rewards do not depend on `FACTORY_KERNELS`, resets included."""
    results = []
    for choice in ("on", "off"):
        monkeypatch.setenv("FACTORY_KERNELS", choice)
        env = make("test")
        generator = torch.Generator().manual_seed(3)
        ends = 0
        for _ in range(30):
            obs, reward, terminated, *_ = env.step(2.0 * torch.rand(64, 2, generator=generator) - 1.0)
            ends += int(terminated.sum())
        assert ends > 0
        results.append((obs["policy"], obs["critic"], reward))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0.0)


def test_path_lengths_are_those_of_torch() -> None:
    """Within the hall, at its edges and beyond them, paths have the same lengths."""
    env = make("test")
    points = (1.4 * poses(64 * 50, env.size_m)[:, :2] - 2.0).view(64, 50, 2)
    lengths = [env.course.path_length(env.episode, points, compiled=compiled) for compiled in (True, False)]
    assert torch.equal(*lengths)
    assert float(lengths[0].min()) < 1.0 and float(lengths[0].max()) > 10.0
    points[0, 0] = math.nan
    again = env.course.path_length(env.episode, points, compiled=True)
    assert torch.equal(again[:, 1:], lengths[0][:, 1:])
