"""A run that is resumed is the run that was never stopped; what does not fit is refused."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tamper import reseal
from training_runs import (
    CARTPOLE,
    FILES_ONLY,
    ROLLOUT,
    TINY,
    Started,
    assert_equal_checkpoints,
    newest_run,
    newest_run_in,
    summary_of,
)

from factory.energy.ledger import EnergyLedger
from factory.envs.physics import ENGINES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(shared_command_line: Callable[..., None]) -> Path:
    """Train for one iteration; return the run's folder."""
    shared_command_line(*CARTPOLE, FILES_ONLY, f"total_steps={ROLLOUT}")
    return newest_run(Path.cwd())


def test_killed_and_resumed_equals_never_stopped(
    command_line: Callable[..., None], start: Callable[..., Started], tmp_path: Path
) -> None:
    """20 iterations, kill -9 in mid-training, resume, 20 more: every tensor equals that of 40 in one go."""
    common = (*CARTPOLE, FILES_ONLY, "checkpoint_every=20")
    killed = start(*common, f"total_steps={400 * ROLLOUT}")
    killed.wait_until(lambda: any(tmp_path.glob("outputs/*/*/checkpoints/last/state.json")))
    killed.process.send_signal(signal.SIGKILL)
    assert killed.process.wait(timeout=60) == -signal.SIGKILL
    run_dir = newest_run(tmp_path)
    # On a busy machine, the process may reach a later checkpoint before it is killed.
    done, rest = divmod(int((run_dir / "checkpoints" / "last").resolve().name), 20 * ROLLOUT)
    assert done and not rest
    num_iterations = 20 * (done + 1)
    total_steps = num_iterations * ROLLOUT
    assert not (run_dir / "summary.json").exists()
    spent = EnergyLedger.from_dict(json.loads((run_dir / "energy.json").read_text())["meter"]).reading()
    command_line(f"resume={run_dir}", f"total_steps={total_steps}")
    assert summary_of(run_dir)["metrics"]["energy/total_j"] > spent.total_j, (
        "the iterations a kill undid were paid for"
    )
    command_line(*common, f"total_steps={total_steps}", "output_root=outputs/straight")
    straight = newest_run(tmp_path)
    assert straight != run_dir
    assert_equal_checkpoints(run_dir, straight, env_steps=total_steps)
    figures = [summary_of(folder)["metrics"] for folder in (run_dir, straight)]
    assert figures[0]["eval/return_mean"] == figures[1]["eval/return_mean"]
    assert figures[0]["factory/tokens_total"] == figures[1]["factory/tokens_total"] == total_steps
    rows = [json.loads(line)["step"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert rows == [*(ROLLOUT * (i + 1) for i in range(num_iterations)), total_steps]


@pytest.mark.parametrize("physics", ENGINES)
def test_robot_dog_resumes_exactly(command_line: Callable[..., None], tmp_path: Path, physics: str) -> None:
    """A task with commands, pushes and per-world physics parameters resumes bit for bit as well, on both
    engines.
    """
    options = (
        "task=quadruped_velocity",
        f"physics={physics}",
        "task.max_episode_steps=30",
        *TINY[2:],
        FILES_ONLY,
    )
    common = (*options, "num_envs=8", "learner.num_steps=8", "checkpoint_every=100")
    command_line(*common, "total_steps=192", "output_root=parted")
    parted = newest_run_in(tmp_path / "parted")
    command_line(f"resume={parted}", "total_steps=384")
    command_line(*common, "total_steps=384", "output_root=straight")
    assert_equal_checkpoints(parted, newest_run_in(tmp_path / "straight"), env_steps=384)


def test_checkpoint_that_does_not_fit_changes_no_run(
    command_line: Callable[..., None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It ends the resume in one line; configuration and last word are those of the run as it was."""
    command_line(*CARTPOLE, FILES_ONLY, f"total_steps={ROLLOUT}")
    run_dir = newest_run(tmp_path)
    path = run_dir / "checkpoints" / "last" / "learner.safetensors"
    save_file({"learning_rate": torch.zeros(())}, path)
    reseal(path.parent.resolve())
    kept = [run_dir / name for name in ("config.yaml", "summary.json", "run.json", "metrics.jsonl")]
    before = [path.read_text() for path in kept]
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        command_line(f"resume={run_dir}", f"total_steps={2 * ROLLOUT}")
    err = capsys.readouterr().err
    assert err.startswith(f"error: resume={run_dir}: checkpoint {ROLLOUT} does not fit (learner: ")
    assert err.count("\n") == 1
    assert [path.read_text() for path in kept] == before


@pytest.mark.parametrize("schedule", ["fixed", "adaptive"])
def test_resumed_run_uses_the_step_size_it_is_given(
    command_line: Callable[..., None], tmp_path: Path, schedule: str
) -> None:
    """The rate of a resume is the one it trains with, whatever the checkpoint holds."""
    command_line(*CARTPOLE, FILES_ONLY, f"total_steps={ROLLOUT}", "learner.schedule=fixed")
    run_dir = newest_run(tmp_path)
    rates = ("learner.learning_rate=1e-5", f"learner.schedule={schedule}", "learner.max_learning_rate=1e-5")
    command_line(f"resume={run_dir}", f"total_steps={2 * ROLLOUT}", *rates)
    assert summary_of(run_dir)["metrics"]["loss/learning_rate"] == pytest.approx(1e-5)


@pytest.mark.parametrize("change", ["seed=7", "hydra.run.dir=elsewhere", "num_envs=8", "policy.init_std=0.1"])
def test_resume_refuses_what_it_cannot_change(
    command_line: Callable[..., None], capsys: pytest.CaptureFixture[str], finished: Path, change: str
) -> None:
    """A setting that would have no effect, or not fit, ends in one line that names it."""
    summary = (finished / "summary.json").read_text()
    with pytest.raises(SystemExit, match="2"):
        command_line(f"resume={finished}", "total_steps=1000000", change)
    err = capsys.readouterr().err
    assert err.startswith(f"error: {change}: ")
    assert err.count("\n") == 1
    assert (finished / "summary.json").read_text() == summary
