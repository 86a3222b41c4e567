"""Requests to a running job, and training as a library call."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from factory.cli import single_job
from factory.energy.types import PHASES
from factory.train import train
from factory.training.control import RunControl, stop_on_signals

pytestmark = pytest.mark.slow

ROLLOUT = 8 * 4
JOB = (
    "task=cartpole_swingup tracking=jsonl energy=null num_envs=8 learner.num_steps=4 "
    "learner.num_minibatches=2"
    f" total_steps={6 * ROLLOUT} runtime.eval_episodes=2 runtime.video_s=0 task.max_episode_steps=10"
    " policy.actor_hidden=[4] policy.critic_hidden=[4]"
).split()


def run(tmp_path: Path, control: RunControl | None = None) -> dict[str, float]:
    """Train the small job into `tmp_path / "run"`."""
    return train(single_job([*JOB, f"output_root={tmp_path}"]), tmp_path / "run", control=control)


def test_library_call_prints_nothing_and_returns_the_metrics(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The result is that of `summary.json`; neither stream is written to, and signal handlers stay as they
    are.
    """
    before = signal.getsignal(signal.SIGINT)
    metrics = run(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert signal.getsignal(signal.SIGINT) is before
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["metrics"]["factory/env_steps"] == metrics["factory/env_steps"] == 6 * ROLLOUT
    assert "eval/return_mean" in metrics


def test_library_call_runs_in_a_thread_that_is_not_the_main_one(tmp_path: Path) -> None:
    """Nothing in it needs the main thread."""
    found: list[dict[str, float]] = []
    thread = threading.Thread(target=lambda: found.append(run(tmp_path)))
    thread.start()
    thread.join(60.0)
    assert found[0]["factory/env_steps"] == 6 * ROLLOUT


def test_library_call_raises_what_goes_wrong(tmp_path: Path) -> None:
    """An unwritable run folder is an OSError, not an exit."""
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(OSError, match="run"):
        run(tmp_path)


def test_listener_sees_every_iteration_and_may_stop_the_job(tmp_path: Path) -> None:
    """A stop after the third iteration ends the training there, with a checkpoint and without the stages."""
    steps: list[int] = []

    def listen(metrics: Mapping[str, float], step: int) -> None:
        steps.append(step)
        assert metrics["factory/env_steps"] == step
        if len(steps) == 3:
            control.request_stop()

    control = RunControl(on_metrics=listen)
    metrics = run(tmp_path, control)
    # The request arrives after the poll of the third iteration, so the fourth is the last.
    assert steps == [ROLLOUT * index for index in (1, 2, 3, 4)]
    assert "eval/return_mean" not in metrics
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "interrupted"
    assert (tmp_path / "run" / "checkpoints" / "last").resolve().name == str(4 * ROLLOUT)


def test_paused_job_waits_and_ends_with_the_same_weights(tmp_path: Path) -> None:
    """No iteration is made while a job is paused, and a pause changes no weight."""
    run(tmp_path / "straight")
    steps: list[int] = []
    reached = threading.Event()

    def listen(metrics: Mapping[str, float], step: int) -> None:
        steps.append(step)
        if len(steps) == 2:
            control.pause()
            reached.set()

    control = RunControl(on_metrics=listen)
    thread = threading.Thread(target=run, args=(tmp_path / "paused", control))
    thread.start()
    assert reached.wait(timeout=120)
    assert control.is_paused
    thread.join(timeout=0.3)
    assert thread.is_alive()
    assert len(steps) == 2
    control.resume()
    thread.join(60.0)
    weights = [
        (tmp_path / name / "run/checkpoints/last/policy.safetensors").read_bytes()
        for name in ("straight", "paused")
    ]
    assert weights[0] == weights[1]
    # The pause is a phase of its own, and no time of training.
    run_dir = tmp_path / "paused" / "run"
    slots_s = json.loads((run_dir / "energy.json").read_text())["meter"]["slot_s"]
    phases_s = dict(zip(PHASES, slots_s, strict=False))
    wall_s = json.loads((run_dir / "summary.json").read_text())["metrics"]["time/wall_s"]
    assert phases_s["idle"] > 0.25
    assert wall_s <= sum(slots_s) - phases_s["startup"] - phases_s["idle"]


def test_stop_wakes_a_paused_job() -> None:
    """A paused job that is asked to stop does not wait for ever."""
    control = RunControl()
    control.pause()
    control.request_stop()
    control.wait_while_paused()
    assert control.should_stop
    assert not control.is_paused


def test_signals_request_a_stop_and_a_second_interrupt_ends_at_once() -> None:
    """The first signal is announced; SIGTERM never raises; handlers are put back."""
    before = signal.getsignal(signal.SIGINT)
    announced: list[str] = []
    control = RunControl()
    with stop_on_signals(control, announce=lambda: announced.append("stop")):
        signal.raise_signal(signal.SIGTERM)
        assert control.should_stop
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert announced == ["stop", "stop", "stop"]
    assert signal.getsignal(signal.SIGINT) is before


def test_checkpoint_on_request_does_not_end_the_job(tmp_path: Path) -> None:
    """SIGUSR1 leads to one checkpoint after the iteration, and training goes on to its end."""

    def listen(metrics: Mapping[str, float], step: int) -> None:
        if step == 2 * ROLLOUT:
            signal.raise_signal(signal.SIGUSR1)

    control = RunControl(on_metrics=listen)
    with stop_on_signals(control, announce=lambda: None):
        metrics = run(tmp_path, control)
    assert metrics["factory/env_steps"] == 6 * ROLLOUT
    checkpoints = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name.isdigit()}
    assert checkpoints == {str(2 * ROLLOUT), str(6 * ROLLOUT)}
