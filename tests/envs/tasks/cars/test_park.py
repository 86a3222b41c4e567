"""Parking: lots that are free at the start, the mirror image, outcomes, and Gymnasium's contract."""

from __future__ import annotations

import math

import pytest
import torch

from factory.envs.core.check import check_vector_env
from factory.envs.core.graph_safety import check_graph_safety
from factory.envs.tasks.cars.park import CarPark, park_mirrors
from factory.envs.tasks.cars.park_config import CarParkConfig
from factory.envs.tasks.cars.park_planner import Planner
from factory.envs.tasks.cars.parking_costs import cost_to_go, look_up
from factory.envs.tasks.cars.parking_lots import CAR, GOAL_Y_M, GOAL_YAW, body_box, draw_lots, parked_gaps

NUM_LOTS = 64


def make(**keywords: object) -> CarPark:
    """Return a small environment with few lots."""
    return CarPark(**({"num_envs": 8, "seed": 0, "num_lots": NUM_LOTS} | keywords))


def place(env: CarPark, x: float, y: float, yaw: float, speed: float = 0.0) -> None:
    """Put every car somewhere."""
    env.car.copy_(torch.tensor([x, y, yaw, speed, 0.0]).expand_as(env.car))


@pytest.mark.slow
def test_conforms_and_is_graph_safe() -> None:
    """Gymnasium's contract holds in all autoreset modes, and no step makes the host wait."""
    check_vector_env(lambda **kw: make(**kw))
    check_graph_safety(make(num_envs=2, max_episode_steps=2))


def test_slots_are_wide_enough_and_starts_touch_nothing() -> None:
    """A parked car fits in every slot, no start touches anything, and evaluations have other lots."""
    lots = draw_lots("train", NUM_LOTS, 0.65)
    env = make(num_envs=64)
    assert (env.gaps(env.body()) > 0.0).all()
    yaw = torch.full((NUM_LOTS,), GOAL_YAW)
    x = torch.zeros(NUM_LOTS)
    parked = body_box(x, x + GOAL_Y_M + CAR.center_m, yaw)
    assert (parked_gaps(parked, lots.parked) > 0.2).all()
    assert not torch.isin(draw_lots("test", NUM_LOTS, 0.0).aisle, lots.aisle).any()


def test_curriculum_starts_near_the_slot_and_evaluation_in_the_aisle() -> None:
    """A third of the starts in training, and all of those in evaluations, are at least 4 m to the side."""
    train = draw_lots("train", 2048, 0.65).start[:, 0].abs() > 4.9
    assert 0.3 < train.float().mean() < 0.45
    assert CarParkConfig().eval_kwargs()["curriculum_share"] == 0.0
    assert (draw_lots("test", 256, 0.0).start[:, 0].abs() > 4.9).all()


def test_mirror_image_parks_in_the_mirrored_lot() -> None:
    """Mirrored states, actions and lots give mirrored observations, equal rewards and equal ends."""
    env = make(num_envs=64)
    twin = make(num_envs=64)
    env.reset(seed=3)
    twin.load_state_dict(env.state_dict())
    twin.lots = env.lots.mirrored()
    x, yaw, steering = (0, 2, 4)
    twin.car[:, [x, steering]] *= -1.0
    twin.car[:, yaw] = math.pi - twin.car[:, yaw]
    mirrors = park_mirrors(env.device)
    generator = torch.Generator().manual_seed(0)
    for _ in range(6):
        action = 2.0 * torch.rand(64, 2, generator=generator) - 1.0
        obs, reward, ended, _, _ = env.step(action)
        seen, twin_reward, twin_ended, _, _ = twin.step(mirrors["action"](action))
        assert torch.equal(ended, twin_ended)
        same = ~ended
        assert torch.allclose(mirrors["critic"](obs["critic"])[same], seen["critic"][same], atol=1e-4)
        assert torch.allclose(reward, twin_reward, atol=1e-4)
        if ended.any():
            break
    assert mirrors["policy"].index.numel() == obs["policy"].shape[-1]


def test_standing_in_the_slot_is_success_and_contact_is_not() -> None:
    """A car at rest in its place ends the episode well; one that rolls on, stands askew or touches not."""
    env = make(autoreset_mode="Disabled")
    still = torch.zeros(8, 2)
    y = GOAL_Y_M + CAR.center_m

    def outcome(*pose: float) -> tuple[bool, bool, float]:
        env.reset(seed=0)
        place(env, *pose)
        _, reward, terminated, _, info = env.step(still)
        return bool(info["success"].all()), bool(terminated.all()), float(reward.mean())

    assert outcome(0.1, y, GOAL_YAW)[:2] == (True, True)
    assert outcome(0.0, y, GOAL_YAW, -1.0)[:2] == (False, False)
    assert outcome(0.0, y + 0.2, GOAL_YAW + math.radians(11.0))[:2] == (False, False)
    success, terminated, reward = outcome(1.5, y, GOAL_YAW)
    assert not success and terminated and reward < -5.0
    # Nose out is no goal: both key points are where the other one belongs.
    assert outcome(0.0, GOAL_Y_M - CAR.center_m, -GOAL_YAW)[:2] == (False, False)


def test_turnarounds_are_counted() -> None:
    """Forward, a stop and forward again is none; backward after forward is one."""
    env = make(autoreset_mode="Disabled", randomization={"latency_s": (0.0, 0.0)})
    env.reset(seed=0)
    place(env, 0.0, 3.0, 0.0)
    for speed, count in ((0.5, 0.0), (0.0, 0.0), (0.5, 0.0), (-0.5, 1.0)):
        for _ in range(8):
            env.step(torch.tensor([[0.0, speed]]).expand(8, 2))
        assert (env.num_turnarounds == count).all()


def test_way_that_is_left_ends_at_the_goal_and_is_no_shorter_than_the_straight_line() -> None:
    """It is 0 at the goal, a metre out of the slot a metre, and longer for a car that stands across."""
    way = cost_to_go()
    y = GOAL_Y_M + CAR.center_m
    x = torch.tensor([0.0, 0.0, 0.0, 1.0, 8.0, -8.0])
    above = torch.tensor([y, y + 1.0, y + 2.0, 3.0, 3.0, 3.0])
    yaw = torch.tensor([GOAL_YAW, GOAL_YAW, GOAL_YAW, 0.0, math.pi, 0.0])
    left = look_up(way, x, above, yaw)
    assert left[:3].tolist() == pytest.approx([0.0, 1.0, 2.0], abs=0.35)
    assert left[3] > 6.0
    assert (left[4:] > 9.0).all() and (left[4:] < 25.0).all()
    assert left[4] == pytest.approx(float(left[5]), abs=1e-3)


@pytest.mark.slow
def test_planner_parks() -> None:
    """The baseline parks most of 16 cars on held-out lots, and touches nothing."""
    env = make(num_envs=16, split="test", curriculum_share=0.0)
    planner = Planner(env, speed_m_per_s=1.2)
    state = planner.initial_state(16)
    env.reset(seed=1)
    parked = torch.zeros(16, dtype=torch.bool)
    playing = ~parked
    for _ in range(350):
        action, state = planner.act_deterministic({}, state)
        _, _, terminated, _, info = env.step(action)
        parked |= info["success"] & playing
        assert not (terminated & playing & ~info["success"]).any()
        playing &= ~terminated
    assert parked.sum() >= 10


def test_wrong_settings_are_answered_in_one_line() -> None:
    """Key, value and remedy are named."""
    with pytest.raises(ValueError, match=r"task\.curriculum_share=2: must be in \[0, 1\]"):
        CarParkConfig(curriculum_share=2)


def test_pictures_show_every_world() -> None:
    """A snapshot holds a scene for each world, and a frame is drawn from it."""
    env = make(num_envs=2)
    env.reset(seed=0)
    renderer = env.open_renderer(width=320, height=180)
    (frame,) = renderer.frames([env.snapshot()])
    assert frame.shape == (180, 320, 3) and frame.std() > 20
