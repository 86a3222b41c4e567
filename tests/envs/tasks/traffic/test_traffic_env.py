"""The traffic task: entering, waiting, outcomes, populations, exact resume, and its suite."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from factory.envs.tasks.traffic.config import TrafficConfig
from factory.envs.tasks.traffic.env import Traffic
from factory.envs.tasks.traffic.policies import rule_actions
from factory.suites.traffic import TrafficV1


def make(**values: Any) -> Traffic:
    return Traffic(**{"num_envs": 48, "num_maps": 6, "seed": 0, **values})


def play(env: Traffic, rule: str, steps: int) -> dict[str, Any]:
    """Return sums over all steps: ends by outcome, live rows, and the greatest number of touching pairs."""
    env.reset(seed=1)
    counts = torch.zeros(len(env.outcome_names))
    live = 0
    for _ in range(steps):
        actions = rule_actions(env.table, env.cars, env.perception(), rule=rule)
        _, _, terminated, truncated, info = env.step(actions.flatten(0, 1))
        ended = (terminated | truncated) & info["live"]
        counts += torch.bincount(info["outcome"][ended], minlength=len(counts))
        live += int(info["live"].sum())
    return dict(zip(env.outcome_names, counts.tolist(), strict=True)) | {"live": live}


def test_a_new_scene_has_all_cars_apart() -> None:
    """After a reset all cars drive, none touches another, and they are on routes of their scene's map."""
    env = make(maps="test")
    env.reset(seed=0)
    assert bool(env.is_driving.all()) and not env.perception().touches.any()
    assert env.map.view(6, 8).tolist() == [[world] * 8 for world in range(6)]
    entry = env.table.entry[env.route]
    first = env.table.first_entry[env.map]
    assert bool(((entry >= first) & (entry < first + env.table.num_entries[env.map])).all())
    # Every car is on the centre line of its lane.
    assert float(env.cars.lateral_m.abs().max()) < 1e-4


def test_careful_drivers_arrive_and_blind_ones_collide() -> None:
    """IDM drivers arrive with hardly a collision; without looking, many collide; rows that wait rest."""
    careful = play(make(), "idm", 150)
    blind = play(make(), "pursuit", 100)
    assert careful["success"] > 10.0 * careful["collision"] and careful["off_road"] == 0.0
    assert blind["collision"] > 8.0
    assert blind["live"] < 100 * 48


def test_a_car_waits_until_its_entry_is_free() -> None:
    """While another car stands at every entry, a row that was reset stays in the queue and is not live."""
    env = make(num_envs=8, num_maps=1, agents_per_world=8)
    env.reset(seed=0)
    # One car at each of the crossing's four entries, at rest.
    is_first_half = torch.arange(8) < 4
    entry = torch.arange(4).repeat(2)[None]
    still = torch.zeros(1, 8)
    env.is_driving.copy_(is_first_half)
    env._put(is_first_half, entry, still + 4.0, still, torch.zeros(1, 8, 2))
    env._reset_envs(torch.arange(8) == 7)
    assert bool(env.is_queued[7]) and not env.is_driving[7]
    _, reward, _, _, info = env.step(torch.zeros(8, 2))
    assert not info["live"][7] and float(reward[7]) == 0.0 and env.is_queued[7]
    # Once they have left, it enters, with an episode that begins then.
    env._put(is_first_half, entry, still + 45.0, still, torch.zeros(1, 8, 2))
    env.step(torch.zeros(8, 2))
    assert env.is_driving[7] and int(env.episode_steps[7]) == 0


def test_rule_drivers_learn_nothing() -> None:
    """The last cars of a scene take no actions of the policy and are not live."""
    env = make(rule_drivers=3)
    env.reset(seed=0)
    speed = env.speed.clone()
    _, _, _, _, info = env.step(-torch.ones(48, 2))
    ruled = env.is_rule_driven
    assert ruled.view(6, 8).sum(1).tolist() == [3] * 6
    assert not info["live"][ruled].any() and info["live"][~ruled].all()
    assert bool((env.speed[~ruled] < speed[~ruled]).all())
    assert bool((env.speed[ruled] > speed[ruled]).any())


def test_resumed_traffic_repeats() -> None:
    """The state holds all that later steps depend on."""
    first, second = make(), make(seed=9)
    first.reset(seed=4)
    actions = torch.rand(60, 48, 2, generator=torch.Generator().manual_seed(0)) * 2.0 - 0.6
    for action in actions[:30]:
        first.step(action)
    second.load_state_dict(first.state_dict())
    for action in actions[30:]:
        results = [env.step(action) for env in (first, second)]
        assert all(torch.equal(one, other) for one, other in zip(results[0][:4], results[1][:4], strict=True))


def test_cars_observe_the_nearest_ones() -> None:
    """With fewer neighbours than cars, those observed are the nearest; absent ones are zeros."""
    few = make(neighbours=2)
    seen = few.reset(seed=3)[0][:, 20:].view(48, 2, 16)
    every = make(neighbours=9).reset(seed=3)[0][:, 20:].view(48, 9, 16)
    near = every[..., 0] > 0.5
    distance = torch.where(near, every[..., 1:3].norm(dim=-1), torch.inf)
    nearest = distance.topk(2, largest=False).values
    nearest = torch.where(nearest.isinf(), 0.0, nearest)
    torch.testing.assert_close(seen[..., 1:3].norm(dim=-1), nearest)
    assert float(every[:, 7:].abs().max()) == 0.0


def test_the_episodes_of_the_benchmark_are_frozen() -> None:
    """The digest of the held-out kinds is that of the published results; populations count learned cars."""
    suite = TrafficV1()
    assert suite.table_sha256("topology").startswith("7f464d4baf62")
    assert suite.num_episodes("test") == 1024 and suite.num_episodes("rules") == 8192
    assert suite.task_config("mixed").rule_drivers == 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"maps": "waymo"}, r"task\.maps=waymo: choose one of train, validation, test, topology"),
        ({"rule_drivers": 8}, r"task\.rule_drivers=8: must be in \[0, 7\]"),
        ({"agents_per_world": 17}, r"task\.agents_per_world=17: must be in \[1, 16\]"),
    ],
)
def test_mistakes_name_key_and_choices(values: dict[str, Any], message: str) -> None:
    """A wrong setting is refused in one line."""
    with pytest.raises(ValueError, match=message):
        TrafficConfig(**values)
