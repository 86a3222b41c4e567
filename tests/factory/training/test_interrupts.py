"""Runs that are interrupted, or run out of disk, end in good order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from training_runs import CARTPOLE, FILES_ONLY, ROLLOUT, ROOT, Started, newest_run, newest_run_in, summary_of

from factory.runtime import distributed
from factory.training import checkpoint, metrics, stages

pytestmark = pytest.mark.slow


def interrupt_after(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, *, calls: int) -> None:
    """Send this process SIGINT at the end of so many calls of a function."""
    function, ended = getattr(module, name), count(1)

    def interrupting(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if next(ended) == calls:
            signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(module, name, interrupting)


def test_interrupt_ends_with_a_checkpoint(start: Callable[..., Started], tmp_path: Path) -> None:
    """SIGINT ends the iteration, saves, reports and exits with 130; what was reached is in checkpoint and
    summary.
    """
    run = start(*CARTPOLE, FILES_ONLY, f"total_steps={10**9}", "checkpoint_every=1000000")
    run.wait_until(lambda: any(path.stat().st_size for path in tmp_path.glob("outputs/*/*/metrics.jsonl")))
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(timeout=60) == 130, run.log()
    assert "Traceback" not in run.log()
    run_dir = newest_run(tmp_path)
    summary = summary_of(run_dir)
    assert summary["status"] == "interrupted"
    reached = summary["metrics"]["factory/env_steps"]
    assert (run_dir / "checkpoints" / "last").resolve().name == str(int(reached))
    assert json.loads((run_dir / "run.json").read_text())["status"] == "interrupted"
    assert (run_dir / "report.html").exists()


@pytest.mark.parametrize("joined", [False, True], ids=["| tee", "2>&1 | tee"])
def test_ctrl_c_in_a_pipeline_ends_with_a_checkpoint(tmp_path: Path, joined: bool) -> None:
    """It reaches `tee`, too, which ends at once: the run saves and reports with nobody reading its output."""
    arguments = [*CARTPOLE, FILES_ONLY, f"total_steps={10**9}", "checkpoint_every=1000000"]
    with (tmp_path / "errors").open("w") as errors:
        train = subprocess.Popen(
            [sys.executable, "-m", "factory.train", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if joined else errors,
            process_group=0,
        )
        tee = subprocess.Popen(
            ["tee", "log"], cwd=tmp_path, stdin=train.stdout, stdout=errors, process_group=train.pid
        )
    try:
        assert train.stdout is not None
        train.stdout.close()
        while not any(path.stat().st_size for path in tmp_path.glob("outputs/*/*/metrics.jsonl")):
            assert train.poll() is None
            time.sleep(0.01)
        os.killpg(train.pid, signal.SIGINT)
        assert tee.wait(timeout=60) == -signal.SIGINT
        assert train.wait(timeout=60) == 130
    finally:
        train.kill()
        tee.kill()
    run_dir = newest_run(tmp_path)
    reached = int(summary_of(run_dir)["metrics"]["factory/env_steps"])
    assert summary_of(run_dir)["status"] == "interrupted"
    assert (run_dir / "checkpoints" / "last").resolve().name == str(reached)
    assert (run_dir / "report.html").exists()
    if not joined:
        told = [line for line in (tmp_path / "errors").read_text().splitlines() if "interrupted" in line]
        assert told == [
            "interrupted: finishing the iteration, then writing a checkpoint; go on later with"
            f" resume={run_dir}"
        ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_during_start_up_is_one_line(
    start: Callable[..., Started], tmp_path: Path, number: signal.Signals
) -> None:
    """A signal while the command line is checked ends with status 130, without a traceback or a run."""
    block = tmp_path / "block.py"
    block.write_text("import pathlib, time\npathlib.Path('reached').touch()\ntime.sleep(60)\n")
    run = start(*CARTPOLE, FILES_ONLY, f"plugins=[{block}]")
    run.wait_until(lambda: (tmp_path / "reached").exists())
    run.process.send_signal(number)
    assert run.process.wait(timeout=30) == 130, run.log()
    assert run.log() == "interrupted\n"
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(("module", "name"), [(distributed, "any_rank"), (metrics, "episodes")])
def test_interrupt_counts_only_once_all_processes_know(
    command_line: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: Any, name: str
) -> None:
    """One that comes during or after the second iteration's agreement ends the third, as in every other
    process.
    """
    interrupt_after(monkeypatch, module, name, calls=2)
    with pytest.raises(SystemExit, match="130"):
        command_line(*CARTPOLE, FILES_ONLY, f"total_steps={5 * ROLLOUT}")
    assert (newest_run(tmp_path) / "checkpoints" / "last").resolve().name == str(3 * ROLLOUT)


def test_interrupt_after_training_leaves_out_the_stages_that_remain(
    command_line: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """One that comes during the evaluation lets it end, says what it leaves out, and a resume makes up for
    it.
    """
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="130"):
        interrupt_after(patch, stages.evaluation, "evaluate", calls=1)
        command_line(*CARTPOLE, FILES_ONLY, f"total_steps={ROLLOUT}")
    run_dir = newest_run(tmp_path)
    assert "finishing the stage, then skipping to the report" in capsys.readouterr().err
    assert summary_of(run_dir)["status"] == "interrupted"
    assert "eval/return_mean" in summary_of(run_dir)["metrics"] and (run_dir / "report.html").exists()
    assert not (run_dir / "export").exists()
    command_line("resume=last")
    assert summary_of(run_dir)["status"] == "finished" and (run_dir / "export").exists()


def test_interrupt_that_leaves_out_nothing_is_none(
    command_line: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that comes when the last stage runs changes nothing: the run finished, and its exit status says
    so.
    """
    interrupt_after(monkeypatch, checkpoint, "manifest", calls=1)
    command_line(*CARTPOLE, FILES_ONLY, f"total_steps={ROLLOUT}")
    assert summary_of(newest_run(tmp_path))["status"] == "finished"


def test_disk_that_takes_no_more_ends_in_one_line_and_keeps_what_is_whole(tmp_path: Path) -> None:
    """A run whose checkpoints outgrow the space says so in one line, exit status 1, and is resumed with
    room.
    """
    resource = pytest.importorskip("resource", reason="no limits on file sizes on this platform")
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))  # noqa: E731
    arguments = [
        *CARTPOLE,
        FILES_ONLY,
        f"total_steps={2 * ROLLOUT}",
        "checkpoint_every=1",
        f"output_root={tmp_path}",
    ]
    arguments.append("policy.actor_hidden=[256,256]")
    command = [sys.executable, "-m", "factory.train", *arguments]
    ended = subprocess.run(command, cwd=ROOT, preexec_fn=limit, capture_output=True, text=True, timeout=120)
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert ended.returncode == 1 and len(errors) == 1 and "Traceback" not in ended.stderr, ended.stderr
    assert "could not be written" in errors[0] and "resume=" in errors[0]
    assert not list(newest_run_in(tmp_path).glob("checkpoints/.*")), "what was begun must be cleared away"
