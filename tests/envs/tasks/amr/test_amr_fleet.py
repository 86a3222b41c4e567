"""A fleet: rays, stations, starts, encounters, exact resume, and the picture of a hall."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from factory.envs.core.check import check_vector_env
from factory.envs.tasks.amr import scoring
from factory.envs.tasks.amr.controllers import DynamicWindow, TurnToGoal
from factory.envs.tasks.amr.fleet import AmrFleet
from factory.envs.tasks.amr.fleet_config import AmrFleetConfig
from factory.envs.tasks.amr.fleet_maps import NUM_STATIONS, SIZE_M, fleet_maps
from factory.envs.tasks.amr.obstacles import Boxes, Movers, gaps
from factory.envs.tasks.amr.raycast import cast_rays
from factory.envs.tasks.amr.robot import NUM_BEAMS, RANGE_M

STILL = torch.tensor([-1.0, 0.0])
FORWARD = torch.tensor([1.0, 0.0])


def make(num_envs: int = 16, **kwargs: Any) -> AmrFleet:
    """Return two worlds of eight robots in two halls."""
    return AmrFleet(**{"num_envs": num_envs, "num_maps": 2, "seed": 0} | kwargs)


@pytest.fixture
def env() -> AmrFleet:
    """Return two worlds at the start of their episodes."""
    env = make()
    env.reset(seed=0)
    return env


def test_conforms() -> None:
    """Gymnasium's contract holds in all autoreset modes."""
    check_vector_env(lambda **kwargs: make(**{"agents_per_world": 2} | kwargs))


def test_rays_end_on_boxes_discs_and_walls() -> None:
    """Rays along the axes and at 45 degrees end where geometry says; those beside or behind are missed."""
    half = math.sqrt(0.5)
    direction = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [half, -half]]])
    turned = Boxes.of(torch.tensor([[[4.0, 2.0, 1.0, 0.5, 0.0, 1.0]]]))
    disc = Movers(
        torch.tensor([[[2.0, 6.0]]]), torch.zeros(1, 1, 2), torch.zeros(1, 1), torch.tensor([[0.5]])
    )
    origin = torch.tensor([[2.0, 2.0]])
    lengths = cast_rays(origin, direction, boxes=turned, discs=disc, size_m=10.0)
    expected = torch.tensor([[1.5, 3.5, 2.0, 2.0 / half]])
    torch.testing.assert_close(lengths, expected, atol=1e-5, rtol=0.0)


def test_beams_end_on_surfaces(env: AmrFleet) -> None:
    """Where an exact beam ends, a shelf, a wall or another robot begins, and none is nearer on the way."""
    angles = env.pose[:, 2:] + torch.arange(NUM_BEAMS) * (math.tau / NUM_BEAMS)
    directions = torch.stack([angles.cos(), angles.sin()], -1)
    ranges = env.lidar.ranges

    def room(share: float) -> torch.Tensor:
        points = env.position[:, None] + share * ranges[..., None] * directions
        to_static = gaps(points, env.boxes, size_m=SIZE_M).distance
        others = env.movers
        apart = (points[:, :, None] - others.position[:, None]).norm(dim=-1) - others.radius[:, None]
        return torch.minimum(to_static, apart.amin(-1))

    assert room(1.0)[ranges < RANGE_M].abs().max() < 1e-3
    assert min(float(room(share).min()) for share in (0.25, 0.5, 0.9)) > 0.0


def test_stations_are_apart_and_joined() -> None:
    """Stations are at least 1 m apart, with a way between any two; test halls are not those to train."""
    maps = fleet_maps("test", 2, torch.device("cpu"))
    apart = torch.cdist(maps.stations, maps.stations) + 9.0 * torch.eye(NUM_STATIONS)
    assert float(apart.min()) > 0.999
    # The way is at least the straight line, and the same there and back.
    assert bool((maps.between >= 0.99 * torch.cdist(maps.stations, maps.stations)).all())
    torch.testing.assert_close(maps.between, maps.between.transpose(1, 2))
    assert float(maps.between.max()) < 30.0
    assert not torch.equal(maps.stations, fleet_maps("train", 2, torch.device("cpu")).stations)


def test_robots_start_apart_at_stations(env: AmrFleet) -> None:
    """After a reset every robot stands at a station, apart from all others and at least 3 m from its goal."""
    to_station = torch.cdist(env.position[:, None], env.maps.stations[env.hall])[:, 0]
    assert float(to_station.amin(-1).max()) < 1e-5
    assert float(env._shortest.min()) >= 3.0
    assert float((env.movers.position - env.position[:, None]).norm(dim=-1).min()) > 0.999
    assert env.hall.view(2, 8).tolist() == [[0] * 8, [1] * 8]


def test_a_robot_starts_anew_where_nobody_is(env: AmrFleet) -> None:
    """A row that is reset leaves for a free station, while the others and their clocks go on."""
    for _ in range(3):
        env.step(STILL.expand(16, 2))
    # Robot 1 blocks two of the three stations from which robot 0 may start.
    places = env.maps.stations[0, env._starts[0]]
    env.pose[1, :2] = places[0] + 0.3
    env.pose[2, :2] = places[1] + 0.3
    before = env.pose.clone()
    env._reset(torch.arange(16) == 0)
    assert torch.equal(env.pose[1:], before[1:]) and env.elapsed_s[1:].min() > 0.25
    torch.testing.assert_close(env.position[0], places[2])
    assert float(env.elapsed_s[0]) == 0.0 and torch.equal(env.ended_at[0], before[0, :2])


def test_robots_that_meet_collide_at_fault_if_they_drive(env: AmrFleet) -> None:
    """Of two robots that touch, the one that drives is at fault, and the one that stands is struck."""
    env.pose[0] = torch.tensor([5.0, 0.6, 0.0])
    env.pose[1] = torch.tensor([5.52, 0.6, 0.0])
    env.twist[0, 0] = 0.9
    action = STILL.repeat(16, 1)
    action[0] = FORWARD
    _, reward, terminated, _, info = env.step(action)
    names = [env.outcome_names[code] for code in info["outcome"][:2].tolist()]
    assert terminated[:2].all() and names == ["collision_mover", "struck"]
    assert (reward[:2] < -4.0).all()


def test_route_leads_along_the_shortest_path() -> None:
    """Alone in its hall, a robot that only follows the route arrives, and success ends its episode."""
    env = make(8, agents_per_world=1)
    obs, _ = env.reset(seed=1)
    controller = TurnToGoal(env)
    state = controller.initial_state(8)
    counts = torch.zeros(len(env.outcome_names))
    for _ in range(250):
        action, state = controller.act_deterministic(obs, state)
        obs, _, terminated, _, info = env.step(action)
        counts += torch.bincount(info["outcome"][terminated], minlength=len(counts))
    assert counts[scoring.OUTCOMES.index("success")] >= 8 > counts[1:].sum()


def test_resumes_bit_for_bit() -> None:
    """Another environment goes on from a state as the first one does, resets included."""
    first = make(max_episode_steps=6)
    second = make(max_episode_steps=6, seed=9)
    first.reset(seed=1)
    for _ in range(4):
        first.step(FORWARD.expand(16, 2))
    second.load_state_dict(first.state_dict())
    for _ in range(5):
        ours = first.step(FORWARD.expand(16, 2))
        theirs = second.step(FORWARD.expand(16, 2))
        assert all(torch.equal(ours[0][group], theirs[0][group]) for group in ours[0])
        assert torch.equal(ours[1], theirs[1])


def test_window_reads_the_observation_and_the_picture_shows_the_fleet(env: AmrFleet) -> None:
    """DWA drives on the same observation; a picture has shelves, stations, robots, a lidar and outcomes."""
    controller = DynamicWindow(env)
    obs = env._get_observations()
    action, _ = controller.act_deterministic(obs, controller.initial_state(16))
    assert action.shape == (16, 2) and float(action.abs().max()) <= 1.0
    shapes = env.scenes()[1].shapes
    kinds = [type(shape).__name__ for shape in shapes]
    assert kinds.count("Rays") == 1
    assert kinds.count("Circle") == NUM_STATIONS + NUM_BEAMS + 2 * 8
    env.last_outcome.fill_(0)
    labels = [shape.text for shape in env.scenes()[0].shapes if hasattr(shape, "text")]
    assert labels == ["success"] * 8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"maps": "validation"}, r"task\.maps=validation: choose one of train, test"),
        ({"agents_per_world": 13}, r"task\.agents_per_world=13: must be in \[1, 12\]"),
        ({"num_maps": 0}, r"task\.num_maps=0: must be in \[1, 1024\]"),
    ],
)
def test_mistakes_name_key_and_choices(values: dict[str, Any], message: str) -> None:
    """A wrong setting is refused in one line."""
    with pytest.raises(ValueError, match=message):
        AmrFleetConfig(**values)
