"""Standard output that never ends a run."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from factory.reporting.stream import SteadyStream, steady_stdout

ROOT = Path(__file__).parents[3]


class Failing(io.StringIO):
    """A stream whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError("gone")


def test_a_reader_that_is_gone_costs_nothing() -> None:
    """Writing and flushing go on in silence after the first failure."""
    stream = SteadyStream(Failing())
    assert stream.write("one") == 3
    assert stream.write("two") == 3
    stream.flush()


def test_what_cannot_be_encoded_is_escaped() -> None:
    """A path or a unit with letters that the terminal lacks is shown in ASCII."""
    raw = io.BytesIO()
    narrow = io.TextIOWrapper(raw, encoding="ascii")
    stream = SteadyStream(narrow)
    stream.write("3 \u00b5J")
    stream.flush()
    assert raw.getvalue() == b"3 \\xb5J"


def test_the_stream_of_before_is_put_back() -> None:
    """Outside the block, standard output is what it was."""
    before = sys.stdout
    with steady_stdout():
        assert isinstance(cast(object, sys.stdout), SteadyStream)
    assert sys.stdout is before


def test_a_closed_stream_is_no_terminal() -> None:
    """Libraries that kept standard output ask at exit, when the stream behind is closed."""
    behind = io.StringIO()
    stream = SteadyStream(behind)
    behind.close()
    assert not stream.isatty()


@pytest.mark.slow
def test_run_whose_output_is_cut_off_ends_well(tmp_path: Path) -> None:
    """`| head -n 1` takes one line; checkpoint, summary and report are there all the same."""
    job = "task=cartpole_swingup num_envs=8 learner.num_steps=8 learner.num_minibatches=2 total_steps=512"
    rest = "checkpoint_every=1 runtime.video_s=0 runtime.eval_episodes=2 tracking=jsonl output_root=out"
    train = f"{sys.executable} -m factory.train {job} {rest}"
    command = f"set -o pipefail; {train} | head -n 1"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (run_dir,) = (tmp_path / "out" / "cartpole_swingup").iterdir()
    for name in ("summary.json", "report.html", "checkpoints/last/state.json"):
        assert (run_dir / name).exists(), name


def test_a_run_may_start_without_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python has none where the shell closed it (`>&-`); prints go nowhere then, and nothing fails."""
    monkeypatch.setattr(sys, "stdout", None)
    with steady_stdout():
        print("unseen", flush=True)
