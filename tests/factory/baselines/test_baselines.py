"""Baselines play a task like a policy, and mistakes are answered in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from factory.baselines import command
from factory.baselines.base import Random, Zero
from factory.envs.tasks.cartpole import CartpoleSwingup

JOB = ["task=cartpole_swingup", "task.max_episode_steps=5", "episodes=4"]


def test_baseline_is_evaluated_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The JSON file holds what was played, and its metrics are printed."""
    out = tmp_path / "zero.json"
    command.run([*JOB, "baseline=zero", f"out={out}"])
    content = json.loads(out.read_text())
    assert content["task"] == "cartpole_swingup" and content["baseline"] == "zero"
    assert content["metrics"]["eval/episodes"] == 4.0
    assert content["metrics"]["eval/episode_length_mean"] == 5.0
    assert str(out) in capsys.readouterr().out.replace("\n", "")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("baseline=zro", "baseline=zro: choose one of zero, random"),
        ("options.gain=2", "options={'gain': 2}"),
        ("out=result", "out=result: name a file that ends in .json"),
    ],
)
def test_mistakes_name_key_and_remedy(argument: str, message: str) -> None:
    """A mistake is a ValueError of one line, raised before anything is written."""
    arguments = [*JOB, "baseline=zero", argument]
    if argument.startswith("baseline"):
        arguments.remove("baseline=zero")
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        command.run(arguments)
    assert str(error.value).startswith(message)


def test_random_actions_fill_the_action_space_and_repeat() -> None:
    """Two baselines draw equal actions, which differ from step to step and reach both bounds."""
    env = CartpoleSwingup(num_envs=512, seed=0)
    state = Zero(env).initial_state(512)
    first = Random(env)
    second = Random(env)
    action, _ = first.act_deterministic({}, state)
    assert torch.equal(action, second.act_deterministic({}, state)[0])
    assert not torch.equal(action, first.act_deterministic({}, state)[0])
    assert action.min() < -0.95 and action.max() > 0.95
    assert not Zero(env).act_deterministic({}, state)[0].any()
    env.close()
