"""Commands show what they are doing once it takes more than a second."""

from __future__ import annotations

import io
import sys
import time

import pytest
import rich.console

from factory.reporting import waiting as module
from factory.reporting.console import PlainLines
from factory.reporting.live_panel import LivePanel
from factory.reporting.waiting import waiting

SHORT_S = 0.02


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show lines after a twentieth of a second."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)


def test_short_work_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A second is short."""
    with waiting("load") as progress:
        progress(0.5)
    assert capsys.readouterr() == ("", "")


def test_long_work_is_announced_while_it_runs(impatient: None, capsys: pytest.CaptureFixture[str]) -> None:
    """One line on stderr when it has become long, and one at its end."""
    with waiting("load"):
        time.sleep(0.3)
        assert capsys.readouterr() == ("", "load ...\n")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("load done in ")


@pytest.mark.parametrize("how", [{"lines": False}, {"quiet": True}])
def test_long_work_without_lines(
    impatient: None, how: dict[str, bool], capsys: pytest.CaptureFixture[str]
) -> None:
    """Where one line may follow, or output for programs, a log gets nothing."""
    with waiting("load", **how) as progress:
        progress(0.5)
        time.sleep(0.2)
    assert capsys.readouterr() == ("", "")


def test_terminal_gets_a_spinner_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the share of the work, and the cursor comes back."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with waiting("evaluate", lines=False) as progress:
        progress(0.25)
        time.sleep(0.2)
        assert "evaluate 25 %" in screen.getvalue()
    assert "done in" not in screen.getvalue()
    assert screen.getvalue().rstrip().endswith("\x1b[2K")


def test_failed_start_says_so(impatient: None) -> None:
    """A stage that was announced tells its outcome."""
    file = io.StringIO()
    console = PlainLines(file=file)
    with pytest.raises(ValueError), console.stage("build", after_s=SHORT_S):
        time.sleep(0.2)
        raise ValueError
    announced, outcome = file.getvalue().splitlines()
    assert announced == "build ..."
    assert outcome.startswith("build failed after ")


@pytest.mark.parametrize(("seconds", "is_shown"), [(0.0, False), (1.0, True)])
def test_panel_opens_for_long_stages_only(seconds: float, is_shown: bool) -> None:
    """A start-up that is over in no time leaves the terminal alone."""
    screen = io.StringIO()
    console = rich.console.Console(file=screen, force_terminal=True, width=80, legacy_windows=False)
    panel = LivePanel(console=console)
    with panel.stage("build", after_s=SHORT_S * 5):
        time.sleep(seconds)
    panel.close()
    assert ("build" in screen.getvalue()) == is_shown
