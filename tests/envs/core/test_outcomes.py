"""Every episode has one outcome, and metrics of its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from factory.envs.core.check import check_vector_env
from factory.envs.core.outcomes import outcome_codes, outcome_counts, outcome_names, outcome_shares
from factory.envs.tasks.cartpole import CartpoleSwingup
from factory.policies.base import Controller
from factory.training import metrics
from factory.training.evaluation import evaluate
from tests.helpers.toy_tasks import Crowd, Point

NO = torch.zeros(4, dtype=torch.bool)


def flags(*rows: int) -> torch.Tensor:
    """Return a mask of the rows given. Shape: (4,)."""
    return torch.tensor([row in rows for row in range(4)])


class Still(Controller):
    """Does nothing."""

    def __init__(self, size: int) -> None:
        self.size = size

    def initial_state(self, num_envs: int) -> torch.Tensor:
        return torch.zeros(num_envs, 0)

    def act_deterministic(self, obs: Any, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(len(obs["policy"]), self.size), state


class Homing(Still):
    """Moves towards the origin."""

    def act_deterministic(self, obs: Any, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return -obs["policy"][:, :2], state


@pytest.mark.parametrize("falls", [False, True])
def test_ends_without_names_of_their_own(falls: bool) -> None:
    """A success counts as one, ended by the task or by the time limit; other ends keep the base's names."""
    names = outcome_names((), falls=falls)
    info = {"success": flags(1, 3)}
    codes = outcome_codes(names, info, terminated=flags(0, 1), nonfinite=flags(3))
    found = [names[code] for code in codes]
    assert found == ["fall" if falls else "terminated", "success", "timeout", "diverged"]


def test_ends_that_a_task_names() -> None:
    """Its codes hold where it terminated, and success at the time limit needs the task's word."""
    names = outcome_names(("success", "collision"), falls=False)
    info = {"outcome": torch.tensor([0, 1, 1, 0]), "success": flags(1, 2)}
    codes = outcome_codes(names, info, terminated=flags(0, 1), nonfinite=NO)
    assert [names[code] for code in codes] == ["success", "collision", "success", "timeout"]


def test_shares_add_up_to_one() -> None:
    """Named outcomes are there with a share of zero; a divergence is there once it happened."""
    names = outcome_names(("success", "collision"), falls=False)
    counts = outcome_counts(torch.tensor([0, 2, 2, 3]), flags(0, 1, 3), num_outcomes=4).tolist()
    shares = outcome_shares(dict(zip(names, counts, strict=True)), names[:2], successes=True, falls=False)
    assert shares == pytest.approx({"success": 1 / 3, "collision": 0.0, "timeout": 1 / 3, "diverged": 1 / 3})
    assert outcome_shares({"terminated": 0, "timeout": 2}, (), successes=False, falls=False) == {"timeout": 1}


@pytest.mark.parametrize("task", [Point, Crowd])
def test_an_evaluation_counts_ends_and_averages_over_episodes(task: type[Point]) -> None:
    """A controller that homes in succeeds; of one that stands still all but the lucky starts time out."""
    env = task(num_envs=32, max_episode_steps=40, seed=0)
    result = evaluate(env, Homing(2), episodes=32, seed=0)
    assert result.success_rate == result.outcomes["success"] == 1.0
    assert result.metrics()["eval/outcome/left"] == 0.0
    assert result.metrics()["eval/time_to_goal_s"] == pytest.approx(
        0.1 * float(result.table["length"].mean()), abs=1e-5
    )
    # A straight way: from the start to within 0.1 m of the goal.
    assert 0.3 < result.metrics()["eval/path_m"] < 1.4

    still = evaluate(env, Still(2), episodes=32, seed=0)
    assert sum(still.outcomes.values()) == pytest.approx(1.0) and still.outcomes["timeout"] > 0.9
    assert still.metrics()["eval/path_m"] == 0.0
    lucky = still.table["outcome"] == 0
    assert torch.equal(still.table["time_to_goal_s"].isnan(), ~lucky)


def test_a_divergence_is_an_outcome_and_spoils_no_metric() -> None:
    """An action that is not finite ends the episode so; the other rows go on."""
    env = Point(num_envs=4, seed=0)
    env.position.fill_(1.0)
    action = torch.zeros(4, 2)
    action[2] = torch.nan
    *_, info = env.step(action)
    assert env.outcome_names[int(info["outcome"][2])] == "diverged"
    assert not bool(info["success"][2])
    assert info["episode_metrics"]["path_m"].isnan().tolist() == [False, False, True, False]


def test_training_reports_shares_and_means_of_episodes() -> None:
    """Shares are of all episodes, diverged ones too; a metric's mean is over those that have it."""
    env = SimpleNamespace(
        outcome_names=outcome_names(("success", "left"), falls=False),
        outcomes=("success", "left"),
        episode_metrics=("path_m", "time_to_goal_s"),
        defines_success=True,
        outcome_shares=Point(num_envs=1).outcome_shares,
    )
    sums = {"episodes": 3.0, "return_sum": 6.0, "length_sum": 30.0}
    sums |= {f"outcome/{name}": count for name, count in zip(env.outcome_names, (1, 0, 2, 1), strict=True)}
    sums |= {"metric/path_m": 6.0, "metric_count/path_m": 3.0}
    sums |= {"metric/time_to_goal_s": 0.0, "metric_count/time_to_goal_s": 0.0}
    found = metrics.episodes(sums, env)
    assert found["train/success_rate"] == found["train/outcome/success"] == 0.25
    assert {name: found[f"train/outcome/{name}"] for name in ("left", "timeout", "diverged")} == {
        "left": 0.0,
        "timeout": 0.5,
        "diverged": 0.25,
    }
    assert found["train/return_mean"] == 2.0 and found["train/path_m"] == 2.0
    assert "train/time_to_goal_s" not in found


class WrongCode(Point):
    """Ends with a code beyond its outcomes."""

    def _get_rewards_and_dones(self) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
        reward, terminated, info = super()._get_rewards_and_dones()
        ended = terminated | ((self.episode_steps == 2) & flags(1))
        return reward, ended, info | {"outcome": torch.full_like(info["outcome"], 7)}


class CalledTimeout(WrongCode):
    """Ends an episode as if the time limit had."""

    def _get_rewards_and_dones(self) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
        reward, ended, info = super()._get_rewards_and_dones()
        return reward, ended, info | {"outcome": torch.full_like(info["outcome"], 2)}


class Twice(Point):
    """Names the time limit, which every task has."""

    outcomes = ("success", "timeout")


class Loud(Point):
    """Names an outcome in a way that no experiment tracker takes."""

    outcomes = ("success", "Left!")


class Unnamed(Point):
    """Gives a metric that it does not name."""

    episode_metrics = ("path_m",)


class Endless(Point):
    """Divides by the number of goals."""

    def _get_rewards_and_dones(self) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
        reward, terminated, info = super()._get_rewards_and_dones()
        info["episode_metrics"]["path_m"] = self.path_m / 0.0
        return reward, terminated, info


class Boastful(CartpoleSwingup):
    """Changes success after the outcome was settled."""

    def step(self, actions: Any) -> Any:
        obs, reward, terminated, truncated, info = super().step(actions)
        return obs, reward, terminated, truncated, info | {"success": ~info["success"]}


FAULTS: list[tuple[type, str]] = [
    (WrongCode, r"info\['outcome'\] has the codes \[7\] for 4 outcomes"),
    (CalledTimeout, "an episode that the task ended has the outcome timeout"),
    (Twice, "outcome_names has a name twice"),
    (Loud, r"\['Left!'\]: names of outcomes"),
    (Unnamed, "but episode_metrics names"),
    (Endless, "episode_metrics\\['path_m'\\] is infinite"),
    (Boastful, "the outcome success differ where episodes ended"),
]


@pytest.mark.parametrize(("task", "message"), FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_planted_fault_of_an_outcome_is_named(task: Any, message: str) -> None:
    """The conformance check finds it and says what it is."""
    with pytest.raises(AssertionError, match=message):
        check_vector_env(task)
