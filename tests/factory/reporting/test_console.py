"""What a person at a terminal, and a reader of a log, is told about a run."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
import rich.console

from factory.reporting.console import (
    Console,
    PlainLines,
    open_console,
    print_summary,
)
from factory.reporting.formatting import (
    format_duration,
    format_number,
    format_si,
    joules_per_token_text,
    phase_shares,
)
from factory.reporting.live_panel import FIRST_ITERATION, LivePanel
from factory.reporting.progress import Eta

HEADER = {
    "task": "quadruped_velocity",
    "robot": "go1",
    "physics": "mujoco",
    "policy": "mlp",
    "learner": "ppo",
    "device": "cpu",
    "num_envs": "1024",
}


class Clock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        """Return the time set."""
        return self.now_s


class FakeTerminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def iteration(step: float, **changes: float) -> dict[str, float]:
    """Return metrics in which every figure can be told from every other."""
    return {
        "factory/env_steps": step,
        "factory/env_steps_per_s": 24_100.0,
        "factory/tokens_per_s": 23_700.0,
        "factory/joules_per_token": 0.0031,
        "energy/total_j": 310.0,
        "energy/total_j_lo": 120.0,
        "energy/total_j_hi": 870.0,
        "train/return_mean": 231.4,
        "train/episode_length_mean": 812.5,
        "train/success_rate": 0.81,
        "time/wall_s": 50.0,
        "time/sim_s": 34.0,
        "time/infer_s": 4.0,
        "time/learn_s": 9.0,
        "loss/approx_kl": 0.0123,
        "loss/learning_rate": 0.0004,
        "loss/explained_variance": 0.932,
        **changes,
    }


def plain(clock: Clock) -> tuple[PlainLines, io.StringIO]:
    """Return a log console started for 1000 env steps, and what it writes to."""
    file = io.StringIO()
    console = PlainLines(file=file, min_interval_s=10.0, clock=clock)
    console.start(HEADER, 1000)
    return console, file


def panel(*, width: int = 80) -> tuple[LivePanel, io.StringIO]:
    """Return a live console without colours on a terminal of the given width, and what it writes to."""
    file = io.StringIO()
    terminal = rich.console.Console(file=file, force_terminal=True, width=width, height=40, color_system=None)
    return LivePanel(console=terminal, clock=Clock()), file


def test_plain_lines_print_the_first_iteration_then_wait() -> None:
    """The first iteration is printed at once, the next ones only after the interval."""
    clock = Clock()
    console, file = plain(clock)
    for step in (100, 200, 300):
        console.update(iteration(step), "estimated")
        clock.now_s += 4.0
    assert [line.split(" / ")[0] for line in file.getvalue().splitlines()[2:]] == ["100"]
    console.update(iteration(400), "estimated")
    assert [line.split(" / ")[0] for line in file.getvalue().splitlines()[2:]] == ["100", "400"]


def test_plain_lines_print_the_last_iteration_once() -> None:
    """The iteration that ends the training is printed however soon it comes, and closing repeats nothing."""
    console, file = plain(Clock())
    for step in (500, 1000):
        console.update(iteration(step), "estimated")
    console.close()
    assert sum("(100 %)  done" in line for line in file.getvalue().splitlines()) == 1


def test_plain_lines_print_a_held_back_iteration_when_closed() -> None:
    """An interrupted run still shows where it stood."""
    console, file = plain(Clock())
    console.update(iteration(100), "estimated")
    console.update(iteration(300), "estimated")
    console.close()
    assert file.getvalue().splitlines()[-1].startswith("300 / 1.00 k env steps (30 %)")


def test_plain_line_holds_the_figures() -> None:
    """One line tells return, length, throughput, energy with tier and interval, and the phases."""
    console, file = plain(Clock())
    console.update(iteration(500), "estimated")
    line = file.getvalue().splitlines()[-1]
    for text in ("return 231.4", "episode length 812.5", "env steps/s 24.1 k", "tokens/s 23.7 k"):
        assert text in line
    assert "3.10 mJ/token (estimated, 1.20-8.70)" in line
    assert "sim/infer/learn/other 68/8/18/6 %" in line


def test_percentages_never_pass_100() -> None:
    """The last iteration may go beyond the steps that were asked for."""
    console, file = plain(Clock())
    console.update(iteration(8192), "estimated")
    assert "8.19 k / 1.00 k env steps (100 %)  done" in file.getvalue()
    live, screen = panel()
    live.start(HEADER, 100)
    live.update(iteration(8192), "estimated")
    live.close()
    assert "8.19 k / 100 env steps (100 %)" in screen.getvalue()


def test_current_speed_is_shown_beside_the_mean() -> None:
    """The mean counts all iterations, the current speed the last ten seconds."""
    clock = Clock()
    console, file = plain(clock)
    for step in (100, 200, 300, 400):
        console.update(iteration(step), "estimated")
        clock.now_s += 20.0
    assert file.getvalue().splitlines()[-1].count("env steps/s 24.1 k (now 5.00)") == 1


def test_success_is_shown_only_where_it_is_reported() -> None:
    """A task without success gets neither a column nor a dash."""
    metrics = iteration(500)
    del metrics["train/success_rate"]
    console, file = plain(Clock())
    console.update(metrics, "estimated")
    live, screen = panel()
    live.start(HEADER, 1000)
    live.update(metrics, "estimated")
    live.close()
    last = screen.getvalue()
    last = last[last.rindex("\u256d") :]
    assert "success" not in file.getvalue() and "success" not in last
    assert "wall time" in last and "explained var" in last


def test_the_first_iteration_and_stages_show_progress() -> None:
    """Compilation is announced, a stage shows its start and its share, and no share passes 100 %."""
    clock = Clock()
    console, file = plain(clock)
    with console.stage("video") as progress:
        for share in (0.1, 0.5, 1.2):
            clock.now_s += 11.0
            progress(share)
    lines = file.getvalue().splitlines()
    assert lines[1] == f"{FIRST_ITERATION} ..."
    assert lines[2:6] == ["video ...", "video 10 %", "video 50 %", "video 100 %"]
    live, screen = panel()
    live.start(HEADER, 1000)
    assert FIRST_ITERATION in screen.getvalue()
    live.update(iteration(500), "estimated")
    with live.stage("evaluate") as progress:
        progress(0.25)
        live.message("half way")
        assert "evaluate 25 %" in screen.getvalue()
    live.close()


def test_plain_line_leaves_out_what_is_unknown() -> None:
    """Before the first episode ends there is no return, and the line does not pretend one."""
    console, file = plain(Clock())
    console.update({"factory/env_steps": 10.0, "train/return_mean": math.nan}, "")
    line = file.getvalue().splitlines()[-1]
    assert "return" not in line
    assert "nan" not in line
    assert "not metered" in line


def test_plain_header_names_every_part() -> None:
    """The first line of a log says what is trained with what."""
    _, file = plain(Clock())
    assert file.getvalue().splitlines()[0] == "  ".join(f"{key} {value}" for key, value in HEADER.items())


@pytest.mark.parametrize("error", [None, KeyError("x")])
def test_plain_stage_tells_outcome_and_seconds(error: Exception | None) -> None:
    """A stage ends in one line with its seconds, also when it fails, and the error goes on."""
    clock = Clock()
    console, file = plain(clock)
    try:
        with console.stage("video"):
            clock.now_s += 12.34
            if error:
                raise error
    except KeyError as caught:
        assert caught is error
    outcome = "failed after" if error else "done in"
    assert file.getvalue().splitlines()[-1] == f"video {outcome} 12.3 s"


def test_live_panel_shows_every_field_at_width_80() -> None:
    """Everything fits on an 80 column terminal, no line is longer, nothing is cut off."""
    console, file = panel()
    console.start(HEADER, 1_000_000)
    console.update(iteration(470_000.0), "estimated")
    console.message("checkpoint written")
    console.close()
    screen = file.getvalue()
    for key, value in HEADER.items():
        assert value in screen
        assert key in screen or key == "task"
    for text in ("231.4", "812.5", "24.1 k", "23.7 k", "81 %", "50.0 s", "0.0123", "0.0004", "0.932"):
        assert text in screen
    for text in ("470 k / 1.00 M env steps (47 %)", "3.10 mJ/token (estimated, 1.20-8.70)"):
        assert text in screen
    for text in ("sim 68 %", "infer 8 %", "learn 18 %", "other 6 %", "checkpoint written"):
        assert text in screen
    last = screen[screen.rindex("\u256d") : screen.rindex("\u256f") + 1]
    assert {len(line) for line in last.splitlines()} == {80}
    assert "\u2026" not in last


@pytest.mark.parametrize("width", [20, 40, 200])
def test_live_panel_fits_any_width(width: int) -> None:
    """A narrow or wide terminal gets a panel of its own width."""
    console, file = panel(width=width)
    console.start(HEADER, 1000)
    console.update(iteration(500), "estimated")
    console.close()
    screen = file.getvalue()
    last = screen[screen.rindex("\u256d") : screen.rindex("\u256f") + 1]
    assert {len(line) for line in last.splitlines()} == {width}


def test_live_panel_redraws_at_most_four_times_a_second() -> None:
    """A hundred iterations within a quarter of a second cost no drawing."""
    console, file = panel()
    console.start(HEADER, 1000)
    drawn = len(file.getvalue())
    for step in range(100):
        console.update(iteration(step), "estimated")
    assert len(file.getvalue()) == drawn
    console.close()
    assert "99.0 / 1.00 k env steps" in file.getvalue()


def test_live_panel_keeps_old_messages_in_the_history() -> None:
    """A message that leaves the panel is printed above it, and brackets in it are text."""
    console, file = panel()
    for number in range(6):
        console.message(f"message [{number}]")
    console.close()
    screen = file.getvalue()
    final = screen[screen.rindex("\u256d") :]
    assert [number for number in range(6) if f"message [{number}]" in final] == [2, 3, 4, 5]
    assert all(f"message [{number}]" in screen for number in range(6))


def test_live_stage_becomes_a_message() -> None:
    """A stage shows while it runs and leaves a line with its seconds."""
    console, file = panel()
    with console.stage("evaluate"):
        console.message("half way")
        assert "| evaluate" in file.getvalue() or "/ evaluate" in file.getvalue()
    console.close()
    assert "evaluate done in 0.0 s" in file.getvalue()


def test_eta_ignores_a_cold_start() -> None:
    """Start-up and compilation before the end of the first iteration do not spoil the time left."""
    clock = Clock()
    eta = Eta(1000, clock=clock)
    clock.now_s += 3600.0
    for step in (100, 200, 300):
        eta.mark(step)
        clock.now_s += 5.0
    assert eta.eta_s() == pytest.approx(35.0)


def test_eta_follows_a_machine_that_slows_down() -> None:
    """The speed of the latter half counts."""
    clock = Clock()
    eta = Eta(200, clock=clock)
    eta.mark(0)
    for step in range(1, 101):
        clock.now_s += 0.1 if step <= 50 else 2.0
        eta.mark(step)
    assert eta.eta_s() == pytest.approx(200.0)


def test_eta_holds_for_runs_longer_than_its_memory() -> None:
    """Thousands of iterations are thinned out without changing the speed."""
    clock = Clock()
    eta = Eta(20_000, clock=clock)
    for step in range(5_001):
        eta.mark(step)
        clock.now_s += 0.5
    assert eta.eta_s() == pytest.approx(7_499.5, rel=1e-3)


def test_eta_is_unknown_before_two_iterations() -> None:
    """One mark gives no speed, and the text says so."""
    eta = Eta(1000, clock=Clock())
    eta.mark(100)
    assert math.isnan(eta.eta_s())
    assert eta.text() == "ETA unknown yet"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (185.0, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7620.0, "2 h 07 min"),
        (97200.0, "1 d 03 h"),
        (math.nan, "-"),
    ],
)
def test_durations_carry_over(seconds: float, text: str) -> None:
    """Two units, rounded without a 60 in the smaller one."""
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0031, "J", "3.10 mJ"),
        (999.9, "J", "1.00 kJ"),
        (0.0, "J", "0 J"),
        (-12345.0, "J", "-12.3 kJ"),
        (12.6e6, "", "12.6 M"),
        (0.031, "", "0.0310"),
        (math.inf, "W", "-"),
        (4.2e-7, "J", "420 nJ"),
    ],
)
def test_si_prefixes(value: float, unit: str, text: str) -> None:
    """Three digits and a prefix; numbers without unit are never scaled down."""
    assert format_si(value, unit) == text


@pytest.mark.parametrize(("value", "text"), [(1631.4, "1631"), (-0.02, "-0.02"), (9999.6, "10.0 k")])
def test_numbers_keep_four_digits(value: float, text: str) -> None:
    """Returns read as they are up to ten thousand."""
    assert format_number(value) == text


def test_joules_without_interval_say_so() -> None:
    """A joule figure is never bare: an unknown interval or tier is named."""
    metrics = {"factory/joules_per_token": 0.002}
    assert joules_per_token_text(metrics, "") == "2.00 mJ/token (tier unknown, interval unknown)"


def test_phase_shares_sum_to_one() -> None:
    """What no phase takes is other."""
    shares = phase_shares(iteration(1))
    assert shares == pytest.approx({"sim": 0.68, "infer": 0.08, "learn": 0.18, "other": 0.06})


def test_a_pipe_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """No panel goes to a file, even if colours are forced."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert isinstance(open_console(), PlainLines)


@pytest.mark.parametrize(("term", "kind"), [("xterm-256color", LivePanel), ("dumb", PlainLines)])
def test_a_terminal_gets_the_panel_if_it_can_redraw(
    monkeypatch: pytest.MonkeyPatch, term: str, kind: type[Console]
) -> None:
    """A dumb terminal gets plain lines."""
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr("sys.stdout", FakeTerminal())
    assert isinstance(open_console(), kind)


def test_the_choice_can_be_forced() -> None:
    """`interactive` overrules what standard output is."""
    assert isinstance(open_console(interactive=True), LivePanel)
    assert isinstance(open_console(interactive=False), PlainLines)


def test_summary_tells_the_result_and_where_it_is(tmp_path: Path) -> None:
    """Result, energy with tier and interval, wall time and the places that exist, unbroken however long."""
    run_dir = tmp_path / ("long_name_" * 12)
    (run_dir / "videos").mkdir(parents=True)
    video = run_dir / "videos" / "policy_000000500.mp4"
    video.touch()
    (run_dir / "report.html").touch()
    metrics = iteration(1000, **{"eval/velocity_rms_m_per_s": 0.26, "eval/return_mean": 17.5})
    file = io.StringIO()
    uri = "sqlite:////home/someone/outputs/mlflow.db"
    print_summary(metrics, {"energy.tier": "sampled"}, run_dir, tracking_uri=uri, file=file)
    text = file.getvalue()
    for part in ("0.26 m/s", "17.5  (evaluation)", "23.7 k tokens/s", "3.10 mJ/token  (sampled, 1.20-8.70)"):
        assert part in text
    for part in (
        "50.0 s",
        str(run_dir / "report.html"),
        str(run_dir / "videos" / "policy_000000500.mp4"),
        f"uri {uri}",
    ):
        assert part in text
    assert "(an older policy, of step 500)" in text
    assert "Checkpoint" not in text
    assert "231.4" not in text
