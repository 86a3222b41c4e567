"""ReplaySource: a recording played against the run's clock, and always called so."""

from __future__ import annotations

from pathlib import Path

import pytest
from energy_fakes import Clock

from factory.energy.sources.base import SourceUnavailable
from factory.energy.sources.replay import ReplaySource
from factory.energy.types import Tier

CSV = "t_s,cpu_j,gpu_j\n100,7,0\n110,107,3000\n120,157,6000\n"
JSONL = '{"t_s": 100, "cpu_j": 7, "gpu_j": 0}\n{"t_s": 110, "cpu_j": 107, "gpu_j": 3000}\n'


@pytest.mark.parametrize(("name", "text"), [("trace.csv", CSV), ("trace.jsonl", JSONL)])
def test_trace_is_interpolated_from_the_start_of_the_run(tmp_path: Path, name: str, text: str) -> None:
    """Both formats give the recorded energy at the same age of the run, tier `replayed`."""
    (tmp_path / name).write_text(text)
    clock = Clock()
    source = ReplaySource(tmp_path / name, clock)
    capability = source.open()
    clock.advance(5.0)
    reading = source.read()
    assert capability.components == ("cpu", "gpu")
    assert reading.components_j == {"cpu": pytest.approx(50.0), "gpu": pytest.approx(1500.0)}
    assert reading.tier is capability.tier is Tier.REPLAYED
    assert reading.lo_j < reading.cumulative_j < reading.hi_j
    assert reading.lost_s == 0.0


def test_end_of_the_trace_is_lost_time(tmp_path: Path) -> None:
    """A run that outlives its recording gains no joules and says for how long."""
    (tmp_path / "t.csv").write_text(CSV)
    clock = Clock()
    source = ReplaySource(tmp_path / "t.csv", clock)
    source.open()
    clock.advance(50.0)
    reading = source.read()
    assert reading.cumulative_j == pytest.approx(6150.0)
    assert reading.lost_s == pytest.approx(30.0)


def test_recorded_bounds_are_kept(tmp_path: Path) -> None:
    """A recording with an interval keeps its interval."""
    (tmp_path / "t.csv").write_text("t_s,cpu_j,lo_j,hi_j\n0,0,0,0\n10,100,40,900\n")
    clock = Clock()
    source = ReplaySource(tmp_path / "t.csv", clock)
    source.open()
    clock.advance(5.0)
    reading = source.read()
    assert (reading.lo_j, reading.hi_j) == (pytest.approx(20.0), pytest.approx(450.0))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "t_s,cpu_j\n0,0\n",
        "t_s,cpu_j\n0,0\n0,1\n",
        "t_s,x\n0,0\n1,1\n",
        "cpu_j\n0\n1\n",
        "t_s,cpu_j\n0,0\n1\n",
    ],
)
def test_broken_recording_is_explained(tmp_path: Path, text: str) -> None:
    """A recording that cannot be played is refused with the key and the remedy."""
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(SourceUnavailable, match=r"energy\.replay_path="):
        ReplaySource(tmp_path / "t.csv", Clock()).open()


def test_absent_recording_is_explained(tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(SourceUnavailable, match=r"absent\.csv"):
        ReplaySource(tmp_path / "absent.csv", Clock()).open()
