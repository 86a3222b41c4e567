"""Recordings replay what they hold, with the time they take, and a wait is explained."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
import torch
import warp as wp

from factory.envs.core import graph_break
from factory.envs.physics import recording
from factory.envs.physics.recording import Recorder


def test_work_is_called_once_and_repeated_from_its_recording() -> None:
    """Each run acts on the array as it is then; Python is asked once for a name, and anew after `forget`."""
    recorder, values, calls = Recorder(torch.device("cpu")), torch.zeros(3), 0
    array, ones = wp.from_torch(values), wp.from_torch(torch.ones(3))

    def work() -> None:
        nonlocal calls
        calls += 1
        wp.copy(array, ones)

    for _ in range(3):
        values.fill_(-1.0)
        recorder.run("copy", work)
        assert values.tolist() == [1.0] * 3
    assert calls == 1
    assert recorder.clock.read_s() > 0.0
    recorder.forget()
    recorder.run("copy", work)
    assert calls == 2


def test_a_capture_that_can_be_cut_gets_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is done while torch captures; the launch handed over does it, each time it is called."""
    monkeypatch.setattr(Recorder, "_is_captured", True)
    recorder, values = Recorder(torch.device("cpu")), torch.zeros(3)
    array, ones = wp.from_torch(values), wp.from_torch(torch.ones(3))
    launches: list[graph_break.Launch] = []
    assert recorder.joins_capture
    with graph_break.handle_graph_breaks(lambda prepare: launches.append(prepare())):
        assert not recorder.joins_capture
        recorder.run("copy", lambda: wp.copy(array, ones))
        values.fill_(-1.0)
    assert not graph_break.can_break()
    for launch in launches * 2:
        values.fill_(-1.0)
        launch()
        assert values.tolist() == [1.0] * 3
    assert len(launches) == 1
    # Other arrays now would leave that launch with the old ones, without a word.
    with pytest.raises(RuntimeError, match="must be asked for before"):
        recorder.forget()


@pytest.mark.parametrize(("patience_s", "said"), [(0.01, True), (60.0, False)])
def test_long_compilation_is_explained(
    patience_s: float, said: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever waits is told why and where kernels are kept; where it is quick, nothing is said."""
    monkeypatch.setattr(recording, "_PATIENCE_S", patience_s)
    with recording.patience(), contextlib.suppress(TimeoutError):
        wait_until(lambda: bool(caplog.records), limit_s=5.0 if said else 0.05)
    assert ["compiling kernels" in record.message for record in caplog.records] == [True] * said


def wait_until(condition: Any, *, limit_s: float) -> None:
    """Return when `condition` holds."""
    end_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end_s:
            raise TimeoutError
        time.sleep(0.005)
