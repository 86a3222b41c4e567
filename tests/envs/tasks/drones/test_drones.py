"""Both drone tasks: their events and outcomes, mirror images, the baseline, and Gymnasium's contract."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from factory.baselines.base import Random
from factory.envs.core.check import check_vector_env
from factory.envs.core.graph_safety import check_graph_safety
from factory.envs.tasks.drones.cascade import Cascade
from factory.envs.tasks.drones.config import GATE_INNER_M, DroneGatesConfig, DroneWaypointsConfig
from factory.envs.tasks.drones.drone import DroneTask, drone_mirrors
from factory.envs.tasks.drones.gates import DroneGates
from factory.envs.tasks.drones.waypoints import DroneWaypoints

TASKS = (DroneWaypoints, DroneGates)
HOVER = torch.zeros(1, 4)


def make(task: type[DroneTask], **keywords: Any) -> Any:
    """Return a small environment."""
    return task(**({"num_envs": 8, "seed": 0} | keywords))


def place(env: DroneTask, position: tuple[float, ...], velocity: tuple[float, ...]) -> None:
    """Put every drone somewhere, level."""
    env.body[:, :3] = torch.tensor(position)
    env.body[:, 3:6] = torch.tensor(velocity)
    env.body[:, 6:13] = torch.tensor([1.0, *[0.0] * 6])


def play(env: DroneTask, controller: Any, *, steps: int) -> float:
    """Return the share of first episodes that succeed."""
    env.reset(seed=1)
    succeeded = torch.zeros(env.num_envs, dtype=torch.bool)
    playing = ~succeeded
    memory = controller.initial_state(env.num_envs)
    for _ in range(steps):
        action, memory = controller.act_deterministic({}, memory)
        _, _, terminated, _, info = env.step(action)
        succeeded |= info["success"] & playing
        playing &= ~terminated
    return float(succeeded.float().mean())


@pytest.mark.parametrize("task", TASKS)
def test_conforms_and_is_graph_safe(task: type[DroneTask]) -> None:
    """Gymnasium's contract holds in all autoreset modes, and no step makes the host wait."""
    check_vector_env(lambda **kw: make(task, **kw))
    check_graph_safety(make(task, num_envs=2, max_episode_steps=2))


@pytest.mark.parametrize("action", ["rates", "rotors"])
@pytest.mark.parametrize("task", TASKS)
def test_mirror_image_flies_the_mirrored_course(task: type[DroneTask], action: str) -> None:
    """Mirrored states, actions and courses give mirrored observations, equal rewards and equal ends."""
    env = make(task, num_envs=32, action=action)
    twin = make(task, num_envs=32, action=action)
    env.reset(seed=3)
    twin.load_state_dict(env.state_dict())
    y, velocity_y, x_of_attitude, z_of_attitude, roll, yaw = (1, 4, 7, 9, 10, 12)
    twin.body[:, [y, velocity_y, x_of_attitude, z_of_attitude, roll, yaw]] *= -1.0
    twin.drawn[:, 6] *= -1.0
    across = [axis for axis in (1, 4, 6) if axis < task.target_size]
    twin.course[:, :, across] *= -1.0
    mirrors = drone_mirrors(task, env.device, action=action)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        command = 0.3 * torch.randn(32, 4, generator=generator)
        obs, reward, ended, _, _ = env.step(command)
        seen, twin_reward, twin_ended, _, _ = twin.step(mirrors["action"](command))
        assert torch.equal(ended, twin_ended)
        # The next episodes of both start alike, and are no mirror images.
        same = ~ended
        assert torch.allclose(mirrors["critic"](obs["critic"])[same], seen["critic"][same], atol=1e-3)
        assert torch.allclose(reward, twin_reward, atol=1e-3)
        if ended.any():
            break
    assert mirrors["policy"].index.numel() == obs["policy"].shape[-1]
    twice = mirrors["policy"](mirrors["policy"](obs["policy"]))
    assert torch.equal(twice, obs["policy"])


def test_waypoints_are_passed_in_order_and_end_the_episode() -> None:
    """A drone within 0.3 m of its waypoint gets the next one; after the last it has succeeded."""
    env = make(DroneWaypoints, num_targets=2, autoreset_mode="Disabled")
    env.reset(seed=0)
    env.course[:, 0] = torch.tensor([0.0, 0.0, 1.0])
    env.course[:, 1] = torch.tensor([0.0, 2.0, 1.0])
    place(env, (0.0, 2.0, 1.0), (0.0, 0.0, 0.0))
    assert not env.step(HOVER.expand(8, 4))[4]["success"].any() and (env.passed == 0).all()
    place(env, (0.25, 0.0, 1.0), (0.0, 0.0, 0.0))
    _, reward, terminated, _, _ = env.step(HOVER.expand(8, 4))
    assert (env.passed == 1).all() and not terminated.any() and (reward > 0.5).all()
    place(env, (0.0, 1.6, 1.0), (0.0, 40.0, 0.0))
    _, _, terminated, _, info = env.step(HOVER.expand(8, 4))
    assert info["success"].all() and terminated.all(), "a waypoint is passed between two steps, too"
    assert (info["episode_metrics"]["flight_time_s"] - 0.06).abs().max() < 1e-6
    assert (info["episode_metrics"]["targets_passed"] == 2).all()


@pytest.mark.parametrize(
    ("position", "rates", "name"),
    [
        ((0.0, 0.0, 0.1), 0.0, "crash"),
        ((0.0, 0.0, 1.0), 60.0, "crash"),
        ((4.1, 0.0, 1.0), 0.0, "out_of_bounds"),
        ((0.0, 0.0, 4.1), 0.0, "out_of_bounds"),
    ],
)
def test_failures_have_their_names(position: tuple[float, ...], rates: float, name: str) -> None:
    """On the ground and spinning are crashes; beyond a wall or the ceiling is out of bounds."""
    env = make(DroneWaypoints, autoreset_mode="Disabled")
    env.reset(seed=0)
    place(env, position, (0.0, 0.0, 0.0))
    env.body[:, 10] = rates
    _, reward, terminated, _, info = env.step(HOVER.expand(8, 4))
    assert terminated.all() and (reward < -2.0).all()
    assert {env.outcome_names[code] for code in info["outcome"].tolist()} == {name}


@pytest.mark.parametrize(
    ("start", "velocity", "passed", "outcome", "clearance_m"),
    [
        ((-0.05, 0.0, 1.5), (10.0, 0.0, 0.0), 1, None, 0.24),
        ((-0.05, 0.2, 1.5), (10.0, 0.0, 0.0), 1, None, 0.04),
        ((-0.05, 0.3, 1.5), (10.0, 0.0, 0.0), 0, "crash", -0.06),
        ((-0.05, 0.0, 2.0), (10.0, 0.0, 0.0), 0, "crash", -0.16),
        ((-0.05, 0.0, 2.5), (10.0, 0.0, 0.0), 0, "missed_gate", 0.29),
        ((0.05, 0.0, 1.5), (-10.0, 0.0, 0.0), 0, None, 0.24),
        ((-0.5, 0.0, 1.5), (0.0, 0.0, 0.0), 0, None, 0.48),
    ],
)
def test_gates_are_passed_touched_or_missed(
    start: tuple[float, ...],
    velocity: tuple[float, ...],
    passed: int,
    outcome: str | None,
    clearance_m: float,
) -> None:
    """A gate counts in its direction and through the opening alone; a sphere of 0.16 m touches its frame."""
    still = {key: (0.0, 0.0) for key in ("drag_per_s", "wind_m_per_s")}
    keywords = {"num_targets": 2, "widest_inner_m": GATE_INNER_M, "randomization": still}
    env = make(DroneGates, autoreset_mode="Disabled", **keywords)
    env.reset(seed=0)
    # A gate across x, and another one far away.
    env.course[:, 0] = torch.tensor([0.0, 0.0, 1.5, 1.0, *[0.0] * 4])
    env.course[:, 1] = torch.tensor([5.0, 0.0, 1.5, 1.0, *[0.0] * 4])
    place(env, start, velocity)
    _, _, terminated, _, info = env.step(HOVER.expand(8, 4))
    assert (env.passed == passed).all()
    assert (info["episode_metrics"]["clearance_m"] - clearance_m).abs().max() < 0.01
    assert bool(terminated.all()) == bool(terminated.any()) == (outcome is not None)
    if outcome is not None:
        assert {env.outcome_names[code] for code in info["outcome"].tolist()} == {outcome}


def test_gates_stand_on_a_course_that_can_be_flown() -> None:
    """Legs are 2.5 to 4 m long on the ground, and every leg crosses its gate's plane at a wide angle."""
    env = make(DroneGates, num_envs=64)
    env.reset(seed=5)
    places = torch.cat([torch.zeros(64, 1, 2), env.course[:, :, :2]], 1)
    legs = places.diff(dim=1)
    length = legs.norm(dim=-1)
    assert length.min() > 2.49 and length.max() < 4.01
    assert ((legs * env.course[:, :, 3:5]).sum(-1) / length).min() > 0.9
    assert env.course[:, :, 2].min() >= 1.0 and env.course[:, :, 2].max() <= 2.2
    assert env.course[:, :, 5:].abs().max() <= 0.05


@pytest.mark.parametrize(("task", "share"), [(DroneWaypoints, 0.9), (DroneGates, 0.5)])
def test_cascade_flies_and_chance_does_not(task: type[DroneTask], share: float) -> None:
    """The baseline passes all targets of most courses; random actions pass those of none."""
    env = make(task, num_envs=32)
    assert play(env, Cascade(env, speed_m_per_s=3.0), steps=400) > share
    assert play(env, Random(env), steps=60) == 0.0
    with pytest.raises(ValueError, match=r"task\.action=rotors: baseline=cascade needs"):
        Cascade(make(task, action="rotors"))


@pytest.mark.parametrize("task", TASKS)
def test_resumes_exactly(task: type[DroneTask]) -> None:
    """After `load_state_dict` another environment repeats the steps bit for bit."""
    env = make(task)
    twin = make(task, seed=5)
    env.reset(seed=2)
    for _ in range(5):
        env.step(torch.rand(8, 4))
    twin.load_state_dict(env.state_dict())
    for action in 2.0 * torch.rand(40, 8, 4) - 1.0:
        first = env.step(action)
        second = twin.step(action)
        assert torch.equal(first[0]["policy"], second[0]["policy"]) and torch.equal(first[1], second[1])


def test_wrong_settings_are_answered_in_one_line() -> None:
    """Key, value and remedy are named."""
    with pytest.raises(ValueError, match=r"task\.action=pwm: choose one of rates, rotors"):
        DroneWaypointsConfig(action="pwm")
    with pytest.raises(ValueError, match=r"task\.randomization\.latency_s=0\.5"):
        DroneWaypointsConfig(randomization={"latency_s": (0.0, 0.5)})
    with pytest.raises(ValueError, match=r"task\.gate_error_m=-1"):
        DroneGatesConfig(gate_error_m=-1)


@pytest.mark.parametrize("task", TASKS)
def test_pictures_show_every_world(task: type[DroneTask]) -> None:
    """A snapshot holds a scene for each world, and a frame is drawn from it."""
    env = make(task, num_envs=2)
    env.reset(seed=0)
    renderer = env.open_renderer(width=320, height=180)
    (frame,) = renderer.frames([env.snapshot()])
    assert frame.shape == (180, 320, 3) and frame.std() > 20


def test_openings_narrow_with_gates_passed_and_widen_with_failures() -> None:
    """A world has its own width, at least the task's; evaluations have that one, and a reset begins anew."""
    env = make(DroneGates, num_targets=2, widest_inner_m=0.8, autoreset_mode="Disabled")
    env.reset(seed=0)
    env.course[:, 0] = torch.tensor([0.0, 0.0, 1.5, 1.0, *[0.0] * 4])
    env.inner_m[4:] = GATE_INNER_M
    # Half a metre beside the middle, which is within a wide opening alone.
    place(env, (-0.05, 0.5, 1.5), (10.0, 0.0, 0.0))
    env.step(HOVER.expand(8, 4))
    assert (env.passed[:4] == 1).all() and (env.passed[4:] == 0).all()
    assert (env.inner_m[:4] < 0.8).all() and (env.inner_m[4:] > GATE_INNER_M).all()
    env.reset(seed=0)
    assert (env.inner_m == 0.8).all()
    assert DroneGatesConfig().eval_kwargs()["widest_inner_m"] == GATE_INNER_M


def test_progress_beyond_the_pace_counts_against_the_drone() -> None:
    """A step at twice the pace is worth nothing, and one at the pace most."""
    env = make(DroneGates)
    pace_m = env.cfg.rewards.pace_m_per_s * env.step_dt_s
    credit = env._credited(torch.tensor([0.5, 1.0, 2.0]) * pace_m)
    assert torch.allclose(credit, torch.tensor([0.5, 1.0, 0.0]) * pace_m, atol=1e-6)
