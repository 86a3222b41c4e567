"""The mobile robot moves, sees and ends its episodes as its task says."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from factory.envs.tasks.amr import scoring
from factory.envs.tasks.amr.config import AmrNavigateConfig, AmrRewards
from factory.envs.tasks.amr.course import Course
from factory.envs.tasks.amr.features import ACTION_MIRROR, policy_mirror
from factory.envs.tasks.amr.navigate import AmrNavigate
from factory.envs.tasks.amr.obstacles import Boxes, Movers, gaps, is_yielding, moved
from factory.envs.tasks.amr.robot import LAG_STEPS, NUM_BEAMS, RANGE_M, ROBOT_RADIUS_M
from factory.envs.tasks.amr.table import episode_table

FORWARD = torch.tensor([1.0, 0.0])
STILL = torch.tensor([-1.0, 0.0])


def make(num_envs: int = 8, **kwargs: Any) -> AmrNavigate:
    """Return worlds with the test episodes."""
    return AmrNavigate(**{"num_envs": num_envs, "episodes": "test", "num_threads": 1, "seed": 0} | kwargs)


@pytest.fixture
def env() -> AmrNavigate:
    """Return eight worlds at the start of the first test episodes."""
    env = make()
    env.reset(seed=0)
    return env


def box(x: float, y: float, half_x: float, half_y: float, turn_deg: float = 0.0) -> Boxes:
    """Return one box in one world."""
    turn = math.radians(turn_deg)
    return Boxes.of(torch.tensor([[[x, y, half_x, half_y, math.cos(turn), math.sin(turn)]]]))


def mover(x: float, y: float, heading_deg: float, speed: float = 0.5, radius: float = 0.3) -> Movers:
    """Return one mover in one world."""
    heading = math.radians(heading_deg)
    return Movers(
        torch.tensor([[[x, y]]]),
        torch.tensor([[[math.cos(heading), math.sin(heading)]]]),
        torch.tensor([[speed]]),
        torch.tensor([[radius]]),
    )


def test_gap_to_a_turned_box() -> None:
    """Distances and normals are right outside a face, outside a corner, inside, and at a wall."""
    boxes = box(5.0, 5.0, 1.0, 0.5, turn_deg=90.0)
    points = torch.tensor([[[6.0, 5.0], [6.0, 6.5], [5.4, 5.0], [0.2, 5.0]]])
    gap = gaps(points, boxes, size_m=10.0)
    expected = torch.tensor([[0.5, math.sqrt(0.5), -0.1, 0.2]])
    torch.testing.assert_close(gap.distance, expected, atol=1e-5, rtol=0.0)
    normals = torch.tensor([[[1.0, 0.0], [math.sqrt(0.5)] * 2, [1.0, 0.0], [1.0, 0.0]]])
    torch.testing.assert_close(gap.normal, normals, atol=1e-5, rtol=0.0)


def test_mover_turns_away_from_a_wall() -> None:
    """A mover that meets a wall at 45 degrees goes on at 45 degrees, along the wall."""
    state = mover(9.68, 5.0, 45.0)
    for _ in range(3):
        state = moved(
            state,
            box(1.0, 1.0, 0.1, 0.1),
            torch.tensor([[2.0, 8.0]]),
            size_m=10.0,
            robot_radius_m=ROBOT_RADIUS_M,
            step_s=0.1,
        )
    half = math.sqrt(0.5)
    torch.testing.assert_close(state.heading, torch.tensor([[[-half, half]]]), atol=1e-5, rtol=0.0)
    assert state.position[0, 0, 0] <= 9.7 + 1e-6 and state.position[0, 0, 1] > 5.0


@pytest.mark.parametrize(("heading_deg", "waits"), [(0.0, True), (60.0, True), (180.0, False)])
def test_mover_waits_for_a_robot_ahead(heading_deg: float, waits: bool) -> None:
    """Only a robot ahead of it makes a mover wait, and only a close one."""
    robot = torch.tensor([[6.0, 5.0]])
    assert bool(is_yielding(mover(5.0, 5.0, heading_deg), robot, robot_radius_m=0.25)) is waits
    assert not is_yielding(mover(4.5, 5.0, heading_deg), robot, robot_radius_m=0.25).any()


def test_robot_that_stands_still_is_never_hit() -> None:
    """In every episode with a robot that stands, movers wait or pass until the time limit."""
    env = make(32)
    env.reset(seed=0)
    for _ in range(100):
        *_, terminated, _, _ = env.step(STILL.expand(32, 2))
        assert not terminated.any()


def test_accelerations_are_limited(env: AmrNavigate) -> None:
    """Speed and turn rate approach their commands by 0.1 m/s and 0.4 rad/s a step, and positions follow."""
    start = env.pose
    for step in range(1, 4):
        env.step(torch.tensor([1.0, -1.0]).expand(8, 2))
        torch.testing.assert_close(env.twist, torch.tensor([0.1 * step, -0.4 * step]).expand(8, 2))
    moved_m = (env.pose - start)[:, :2].norm(dim=-1)
    # 0.1 s at 0.1, 0.2 and 0.3 m/s, up to the slip and the servos' lag.
    assert ((moved_m - 0.06).abs() < 0.006).all()
    turned = (env.pose - start)[:, 2]
    assert ((turned + 0.24).abs() < 0.02).all()


def test_beams_end_on_surfaces(env: AmrNavigate) -> None:
    """Where an exact beam ends, a box, a wall or a mover begins, and none is nearer on the way."""
    angles = env.pose[:, 2:] + torch.arange(NUM_BEAMS) * (math.tau / NUM_BEAMS)
    directions = torch.stack([angles.cos(), angles.sin()], -1)
    ranges = env.lidar.ranges
    ends = env.position[:, None] + ranges[..., None] * directions
    assert gap_of(env, ends)[ranges < RANGE_M].abs().max() < 2e-3
    for share in (0.25, 0.5, 0.9):
        before = env.position[:, None] + share * ranges[..., None] * directions
        assert gap_of(env, before).min() > 0.0


def gap_of(env: AmrNavigate, points: Tensor) -> Tensor:
    """Return the distance of points (N, P, 2) from whatever is nearest."""
    to_static = gaps(points, env.boxes, size_m=env.course.size_m).distance
    movers = env.movers
    apart = (points[:, :, None] - movers.position[:, None]).norm(dim=-1) - movers.radius[:, None]
    return torch.minimum(to_static, apart.amin(-1))


def test_policy_sees_noise_and_the_past_scan(env: AmrNavigate) -> None:
    """The policy's scans are noisy by about 2 cm; the second is the first of three steps ago."""
    obs, *_ = env.step(STILL.expand(8, 2))
    first = obs["policy"][:, :NUM_BEAMS].clone()
    error = (first.exp() * ROBOT_RADIUS_M - env.lidar.ranges)[env.lidar.ranges < 5.0]
    assert 0.015 < error.std() < 0.025
    for _ in range(LAG_STEPS):
        obs, *_ = env.step(STILL.expand(8, 2))
    assert torch.equal(obs["policy"][:, NUM_BEAMS : 2 * NUM_BEAMS], first)
    exact = obs["critic"][:, :NUM_BEAMS].exp() * ROBOT_RADIUS_M
    torch.testing.assert_close(exact, env.lidar.ranges.clamp(min=0.1))


def test_policy_group_has_nothing_of_the_world_beyond_its_sensors(env: AmrNavigate) -> None:
    """The exact distance along the path and the slip reach the critic, and not the policy."""
    obs, _ = env.reset(seed=0)
    env._remaining.fill_(7.0)
    env._slip.fill_(0.04)
    again = env._get_observations()
    assert torch.equal(obs["policy"], again["policy"])
    assert not torch.equal(obs["critic"], again["critic"])


def test_odometry_drifts_with_the_distance(env: AmrNavigate) -> None:
    """The error of the position is 1 % of the distance travelled."""
    env._travelled.fill_(8.0)
    error = (env._drift * env._travelled[:, None])[:, :2].norm(dim=-1)
    torch.testing.assert_close(error, torch.full((8,), 0.08))


def test_success_ends_an_episode_within_the_goal(env: AmrNavigate) -> None:
    """A robot that drives into the goal succeeds, with its reward, and starts the next of its episodes."""
    pose = env._qpos.clone()
    pose[:, :2] = env.goal.double() - 0.35 * torch.stack([pose[:, 2].cos(), pose[:, 2].sin()], -1)
    env.set_state(pose, torch.zeros_like(pose))
    before = env.episode.clone()
    reached = torch.zeros(8, dtype=torch.bool)
    for _ in range(5):
        _, reward, terminated, _, info = env.step(FORWARD.expand(8, 2))
        success = info["outcome"] == scoring.OUTCOMES.index("success")
        assert torch.equal(success & terminated, info["success"] & terminated)
        assert (reward[success & terminated] > 4.0).all()
        reached |= success & terminated
    assert reached.sum() >= 5
    assert torch.equal(env.episode[reached], (before + 8)[reached] % 1024)


@pytest.mark.parametrize(
    ("to_static", "to_mover", "approaches", "reached", "name"),
    [
        (0.1, 0.2, True, True, "success"),
        (-0.1, -0.2, True, False, "collision_static"),
        (0.1, -0.2, True, False, "collision_mover"),
        (0.1, -0.2, False, False, "struck"),
    ],
)
def test_outcomes(to_static: float, to_mover: float, approaches: bool, reached: bool, name: str) -> None:
    """A touch of a box, of a mover ahead, and by a mover that the robot did not approach are told apart."""
    contact = scoring.Contact(torch.tensor([to_static]), torch.tensor([to_mover]), torch.tensor([approaches]))
    assert scoring.OUTCOMES[int(scoring.outcomes(contact, torch.tensor([reached])))] == name


def test_metrics_of_an_episode() -> None:
    """SPL, SCT and the BARN score of a success, of one as fast as can be, and of a failure."""
    metrics = scoring.episode_metrics(
        torch.tensor([True, True, False]),
        shortest=torch.tensor([6.0, 6.0, 6.0]),
        travelled=torch.tensor([8.0, 5.9, 8.0]),
        elapsed=torch.tensor([15.0, 6.0, 15.0]),
        clearance=torch.tensor([0.3, 0.2, -0.01]),
    )
    torch.testing.assert_close(metrics["spl"], torch.tensor([0.75, 1.0, 0.0]))
    torch.testing.assert_close(metrics["sct"], torch.tensor([0.4, 1.0, 0.0]))
    # The time is clipped to 2 to 8 times the fastest.
    torch.testing.assert_close(metrics["barn_score"], torch.tensor([0.4, 0.5, 0.0]))


def test_reward_terms_add_up() -> None:
    """Progress is credited to 0.3 m a step, and room of 0.3 m costs nothing."""
    terms = scoring.reward_terms(
        AmrRewards(),
        progress=torch.tensor([0.1, 9.0]),
        clearance=torch.tensor([0.3, -0.1]),
        reached=torch.tensor([True, False]),
        change=torch.zeros(2, 2),
    )
    weights = AmrRewards()
    assert terms[0].tolist() == pytest.approx([0.1, weights.goal, 0.0, 0.0, 0.0, weights.time])
    assert terms[1].tolist() == pytest.approx(
        [0.3, 0.0, weights.collision, weights.nearness, 0.0, weights.time]
    )


def test_fixed_episodes_are_played_in_order() -> None:
    """World i begins with episode i, whatever the seed, and goes on by the number of worlds."""
    env = make(4, max_episode_steps=2)
    for seed in (0, 5):
        env.reset(seed=seed)
        assert env.episode.tolist() == [0, 1, 2, 3]
        torch.testing.assert_close(env.position, env.course.start(env.episode).pose[:, :2])
        for _ in range(2):
            env.step(STILL.expand(4, 2))
        assert env.episode.tolist() == [4, 5, 6, 7]


def test_resumes_bit_for_bit() -> None:
    """Another environment goes on from a state as the first one does, resets included."""
    first = make(4, max_episode_steps=6)
    second = make(4, max_episode_steps=6, seed=9)
    first.reset(seed=1)
    for _ in range(4):
        first.step(FORWARD.expand(4, 2))
    second.load_state_dict(first.state_dict())
    for _ in range(5):
        ours = first.step(FORWARD.expand(4, 2))
        theirs = second.step(FORWARD.expand(4, 2))
        assert all(torch.equal(ours[0][group], theirs[0][group]) for group in ours[0])
        assert torch.equal(ours[1], theirs[1])


def test_evaluations_use_the_validation_halls() -> None:
    """Evaluations of a training play the validation episodes; a set that was asked for stays."""
    assert AmrNavigateConfig().eval_kwargs()["episodes"] == "validation"
    assert AmrNavigateConfig(episodes="maze").eval_kwargs()["episodes"] == "maze"
    with pytest.raises(ValueError, match=r"^task\.episodes=halls: choose one of train"):
        AmrNavigateConfig(episodes="halls")


def test_scene_shows_what_there_is(env: AmrNavigate) -> None:
    """A picture has the boxes, lidar, goal, movers and robot of its world, and frames the last outcome."""
    scene = env.scenes()[0]
    kinds = [type(shape).__name__ for shape in scene.shapes]
    assert kinds.count("Polygon") == 1 + int(env.course.table.num_boxes[0])
    assert kinds.count("Rays") == 1
    assert kinds.count("Circle") == 1 + NUM_BEAMS + 4 + 1
    assert scene.accent is None and "m/s" in scene.caption
    env.last_outcome.fill_(0)
    assert env.scenes()[0].accent == (20, 150, 70)


def mirrored_course() -> Course:
    """Return the test episodes with y and size - y exchanged."""
    course = Course(episode_table("test"), torch.device("cpu"))
    size = course.size_m
    course._boxes[..., 1] = size - course._boxes[..., 1]
    # A box turned by -a is one turned by 180 degrees - a.
    course._boxes[..., 4] *= -1.0
    course._poses[:, 1] = size - course._poses[:, 1]
    course._poses[:, 2] *= -1.0
    course._goals[:, 1] = size - course._goals[:, 1]
    course._movers.position[..., 1] = size - course._movers.position[..., 1]
    course._movers.heading[..., 1] *= -1.0
    course._lengths = course._lengths.flip(1)
    return course


def test_mirrored_hall_gives_mirrored_motion() -> None:
    """With mirrored actions in a mirrored hall, observations and rewards are mirrored; twice is nothing."""
    mirror = policy_mirror()
    observation = torch.rand(3, 136)
    assert torch.equal(mirror(mirror(observation)), observation)
    plain = make()
    other = make()
    other.course = mirrored_course()
    plain.reset(seed=3)
    other.reset(seed=3)
    # The drift is drawn alike in both, so it must be mirrored by hand.
    other._drift[:, 1:] *= -1.0
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        action = 2.0 * torch.rand(8, 2, generator=generator) - 1.0
        ours, reward, *_ = plain.step(action)
        theirs, mirrored_reward, *_ = other.step(ACTION_MIRROR(action))
        # Noise is drawn by beam, so the exact scan of the critic stands for both.
        first, second = (
            torch.cat([obs["critic"][:, :64], obs["critic"][:, :64], obs["policy"][:, 128:]], -1)
            for obs in (ours, theirs)
        )
        torch.testing.assert_close(mirror(first), second, atol=2e-3, rtol=0.0)
        torch.testing.assert_close(reward, mirrored_reward, atol=0.02, rtol=0.0)


def test_engines_agree_across_a_reset() -> None:
    """Both engines give equal observations and rewards, the first scan of a new hall included."""
    pytest.importorskip("mujoco_warp")
    envs = [make(2, physics=physics, max_episode_steps=2, num_threads=0) for physics in ("mujoco", "warp")]
    for env in envs:
        env.reset(seed=0)
    for _ in range(3):
        (ours, reward, *_), (theirs, other, *_) = (env.step(FORWARD.expand(2, 2)) for env in envs)
        torch.testing.assert_close(ours["critic"], theirs["critic"], atol=1e-4, rtol=0.0)
        torch.testing.assert_close(reward, other, atol=1e-4, rtol=0.0)
    assert envs[1].episode.tolist() == [2, 3]
