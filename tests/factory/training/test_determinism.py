"""Settings that change no bit of the weights; `docs/determinism.md` lists them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from factory.runtime import device

pytestmark = pytest.mark.slow

ROLLOUT = 8 * 4
ITERATIONS = 4
SMALL = (
    "task=quadruped_velocity",
    "task.max_episode_steps=6",
    "num_envs=8",
    "learner.num_steps=4",
    "learner.num_minibatches=2",
    "learner.schedule=adaptive",
    "policy.actor_hidden=[8]",
    "policy.critic_hidden=[8]",
    "tracking=jsonl",
    "energy=null",
    "runtime.eval_episodes=1",
    "runtime.video_s=0",
)
STAGES = (
    "runtime.eval_episodes=3",
    "runtime.video_s=0.1",
    "runtime.video_width=64",
    "runtime.video_height=64",
)


def weights(output_root: Path) -> dict[str, bytes]:
    """Return the tensors of the only run under a folder: policy, learner, environment and collector."""
    (last,) = output_root.glob("*/*/checkpoints/last")
    files = {path.name: path.read_bytes() for path in last.glob("*.safetensors")}
    assert {"policy.safetensors", "learner.safetensors", "env.safetensors"} <= files.keys()
    return files


def last_row(output_root: Path) -> dict[str, float]:
    """Return the metrics of training in the last row of the only run under a folder."""
    (journal,) = output_root.glob("*/*/metrics.jsonl")
    row = json.loads(journal.read_text().splitlines()[-1])["metrics"]
    repeated = {key: value for key, value in row.items() if key.startswith(("train/", "loss/", "eval/"))}
    assert "train/return_mean" in repeated
    return repeated


@pytest.fixture(scope="module")
def plain(shared_command_line: Callable[..., None]) -> dict[str, bytes]:
    """Return the tensors of a run with as little around the training as there can be."""
    shared_command_line(*SMALL, f"total_steps={ITERATIONS * ROLLOUT}", "output_root=plain")
    return weights(Path("plain"))


def test_summary_names_what_has_to_be_equal(plain: dict[str, bytes]) -> None:
    """Threads, processes and processor are those of the run; this task resumes exactly."""
    (path,) = Path("plain").glob("*/*/summary.json")
    conditions = json.loads(path.read_text())["determinism"]
    assert conditions == {
        "is_exact": True,
        "is_exact_over_resumes": True,
        "torch_threads": torch.get_num_threads(),
        "processes": 1,
        "computed_by": "compiled kernels",
        "processor": device.cpu_name(),
    }


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("physics.num_threads=1",),
        ("physics.num_threads=3",),
        ("tracking=null",),
        ("energy=estimate",),
        ("checkpoint_every=1",),
        ("profile=capped", "profile.watts=0.001", "profile.cores=1", "energy=estimate"),
        pytest.param(STAGES, marks=pytest.mark.slow),
    ],
    ids=[
        "again",
        "one-thread",
        "three-threads",
        "no-tracker",
        "meter",
        "checkpoints",
        "profile",
        "stages",
    ],
)
def test_setting_changes_no_bit(
    shared_command_line: Callable[..., None],
    plain: dict[str, bytes],
    settings: tuple[str, ...],
    tmp_path: Path,
) -> None:
    """Runs with another tracker, meter, engine pool, power profile or stage have the same tensors."""
    shared_command_line(
        *SMALL, f"total_steps={ITERATIONS * ROLLOUT}", *settings, f"output_root={tmp_path / 'varied'}"
    )
    assert weights(tmp_path / "varied") == plain


def test_resume_at_any_iteration_changes_no_bit(
    shared_command_line: Callable[..., None], plain: dict[str, bytes], tmp_path: Path
) -> None:
    """A run that stopped after every iteration, was evaluated and filmed, and went on has the tensors of one
    in one go.
    """
    root = tmp_path / "parted"
    shared_command_line(*SMALL, *STAGES, f"total_steps={ROLLOUT}", f"output_root={root}")
    (run_dir,) = root.glob("*/*/")
    for iterations in range(2, ITERATIONS + 1):
        shared_command_line(f"resume={run_dir}", f"total_steps={iterations * ROLLOUT}")
    assert weights(root) == plain


def test_early_stop_follows_the_schedules_of_the_whole_run(
    shared_command_line: Callable[..., None], tmp_path: Path
) -> None:
    """Stopped by `stop_at_steps` and resumed with a larger one, a run equals one in one go, returns too."""
    job = (*SMALL, "learner.schedule=annealed", f"total_steps={ITERATIONS * ROLLOUT}")
    shared_command_line(*job, f"output_root={tmp_path / 'whole'}")
    # The rollout in which the number is reached is completed.
    shared_command_line(*job, f"output_root={tmp_path / 'parted'}", f"stop_at_steps={ROLLOUT - 1}")
    (run_dir,) = tmp_path.glob("parted/*/*/")
    assert (run_dir / "checkpoints" / "last").resolve().name == str(ROLLOUT)
    outcome = json.loads((run_dir / "summary.json").read_text())
    assert outcome["status"] == "finished" and "eval/return_mean" in outcome["metrics"]
    shared_command_line(f"resume={run_dir}", f"stop_at_steps={ITERATIONS * ROLLOUT}")
    assert weights(tmp_path / "parted") == weights(tmp_path / "whole")
    assert last_row(tmp_path / "parted") == last_row(tmp_path / "whole")


def test_another_seed_changes_the_weights(
    shared_command_line: Callable[..., None], plain: dict[str, bytes], tmp_path: Path
) -> None:
    """The comparison can fail: another seed gives other weights."""
    shared_command_line(
        *SMALL, f"total_steps={ITERATIONS * ROLLOUT}", "seed=1", f"output_root={tmp_path / 'other'}"
    )
    assert weights(tmp_path / "other")["policy.safetensors"] != plain["policy.safetensors"]
