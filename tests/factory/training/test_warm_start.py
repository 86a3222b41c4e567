"""A new run from the weights and normalisers of another."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tamper import edit_json

from factory import cli, options
from factory.config import TrainConfig
from factory.policies.base import Policy
from factory.training import checkpoint, warm_start
from factory.training.build import make_env, make_policy
from factory.training.checkpoint import Checkpoint

pytestmark = pytest.mark.slow

ROLLOUT = 8 * 4
SMALL = (
    "task=cartpole_swingup",
    "num_envs=8",
    "learner.num_steps=4",
    "learner.num_minibatches=2",
    "policy.actor_hidden=[8]",
    "policy.critic_hidden=[8]",
    "tracking=jsonl",
    "energy='null'",
    "runtime.eval_episodes=1",
    "runtime.video_s=0",
)

options.register()


def new_policy(*overrides: str) -> tuple[TrainConfig, Policy]:
    """Return a job and its policy as a new run has it."""
    cfg = cli.compose_config([*SMALL, *overrides])[0]
    with contextlib.closing(make_env(cfg, num_envs=1)) as env:
        return cfg, make_policy(cfg, env)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run whose checkpoint holds a policy with numbers of its own."""
    _, policy = new_policy("seed=7")
    tensors = {"policy": {key: value + 1 for key, value in policy.state_dict().items()}}
    run_dir = tmp_path_factory.mktemp("source")
    taken = Checkpoint(env_steps=96, tensors=tensors, state={"mlflow_run_id": "a1"}, config={})
    checkpoint.save(taken, run_dir / "checkpoints", keep=1)
    return run_dir


def stored(run_dir: Path, part: str = "policy") -> dict[str, torch.Tensor]:
    return load_file(run_dir / "checkpoints" / "last" / f"{part}.safetensors")


def test_everything_is_taken_where_everything_fits(source: Path) -> None:
    """Weights, normalisers and PopArt statistics are those of the other run; the origin has its id."""
    cfg, policy = new_policy(f"start_from={source}")
    origin = warm_start.load(cfg, policy)
    for key, value in policy.state_dict().items():
        assert torch.equal(value, stored(source)[key]), key
    assert origin.misfits == ()
    assert origin.tags == {
        "start_from": str(source),
        "start_from.env_steps": "96",
        "start_from.mlflow_run_id": "a1",
    }
    assert origin.note == f"starts from weights and normalisers of {source} at 96 environment steps"


def test_misfits_are_listed_and_stay_new(source: Path) -> None:
    """A module of other sizes stays as the new run made it, biases included; the note names it."""
    cfg, policy = new_policy(f"start_from={source}", "policy.critic_hidden=[8,6]")
    before = {key: value.clone() for key, value in policy.state_dict().items()}
    origin = warm_start.load(cfg, policy)
    now = policy.state_dict()
    for key, value in now.items():
        if key.startswith(("critic.2", "critic.4")):
            assert torch.equal(value, before[key]), key
        else:
            assert torch.equal(value, stored(source)[key]), key
    assert origin.note.endswith(
        "2 of 9 modules do not fit: critic.2 ((1, 8) there, (6, 8) here), critic.4 (only in the new policy)"
    )


def test_names_from_files_stay_on_their_line(source: Path, tmp_path: Path) -> None:
    """A tensor of a stranger's whose name has line breaks and escapes is shown without them."""
    tensors = {"policy": stored(source) | {"evil\n\x1b[2J.weight": torch.zeros(1)}}
    taken = Checkpoint(env_steps=96, tensors=tensors, state={}, config={})
    checkpoint.save(taken, tmp_path / "checkpoints", keep=1)
    cfg, policy = new_policy(f"start_from={tmp_path}")
    note = warm_start.load(cfg, policy).note
    assert "only in the other policy" in note
    assert note.isprintable()


@pytest.mark.parametrize(
    ("run_id", "spoil", "message"),
    [("x y", 1.0, "is no run id"), ("a1", float("nan"), "actor.0.bias is not finite")],
)
def test_unsound_run_is_refused(
    source: Path, tmp_path: Path, run_id: str, spoil: float, message: str
) -> None:
    """Numbers that are not finite, and an id that is none, are refused before anything changes."""
    tensors = stored(source)
    tensors["actor.0.bias"] *= spoil
    taken = Checkpoint(env_steps=96, tensors={"policy": tensors}, state={"mlflow_run_id": run_id}, config={})
    checkpoint.save(taken, tmp_path / "checkpoints", keep=1)
    cfg, policy = new_policy(f"start_from={tmp_path}")
    before = {key: value.clone() for key, value in policy.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        warm_start.load(cfg, policy)
    assert all(torch.equal(value, before[key]) for key, value in policy.state_dict().items())


def test_run_from_another_is_new(
    command_line: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    """`start_from=last` begins at step 0 in its own folder; a resume goes on instead of starting again."""
    command_line(*SMALL, f"total_steps={3 * ROLLOUT}")
    (first,) = Path().glob("outputs/*/*/")
    # Code that the other run names is not looked at.
    edit_json(first, "config.json", lambda plain: plain.update(plugins=["/nonexistent.py"]))
    capfd.readouterr()
    command_line(*SMALL, f"total_steps={2 * ROLLOUT}", "start_from=last", "learner.learning_rate=1e-9")
    (second,) = set(Path().glob("outputs/*/*/")) - {first}
    out = capfd.readouterr().out
    assert out.count(f"starts from weights and normalisers of {first.absolute()} at {3 * ROLLOUT} ") == 1
    assert (second / "checkpoints" / "last").resolve().name == str(2 * ROLLOUT)
    tags = json.loads((second / "summary.json").read_text())["tags"]
    assert tags["start_from"] == str(first.absolute())
    assert tags["start_from.env_steps"] == str(3 * ROLLOUT)
    # The step size is so small that the weights are those of the other run, and a new run's are not.
    assert torch.allclose(stored(first)["actor.0.weight"], stored(second)["actor.0.weight"], atol=1e-6)
    _, fresh = new_policy()
    assert not torch.allclose(stored(second)["actor.0.weight"], fresh.state_dict()["actor.0.weight"])

    # Were it read again, this would fail.
    (first / "checkpoints" / "last").resolve().rename(first / "gone")
    command_line(f"resume={second}", f"total_steps={4 * ROLLOUT}")
    assert (second / "checkpoints" / "last").resolve().name == str(4 * ROLLOUT)
    assert json.loads((second / "summary.json").read_text())["tags"]["start_from"] == str(first.absolute())


def test_jobs_of_a_sweep_start_from_runs(
    command_line: Callable[..., None], source: Path, tmp_path: Path
) -> None:
    """Several runs to start from are a sweep; the same one and the same seed give the same weights."""
    command_line("-m", *SMALL, f"total_steps={ROLLOUT}", f"start_from={source},{source}")
    one, two = (stored(path.parents[1]) for path in tmp_path.glob("outputs/**/checkpoints/last"))
    assert one.keys() == two.keys()
    assert all(torch.equal(value, two[key]) for key, value in one.items())
    _, fresh = new_policy()
    assert not torch.allclose(one["actor.0.weight"], fresh.state_dict()["actor.0.weight"], atol=0.5)
