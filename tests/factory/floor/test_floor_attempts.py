"""The end of an attempt decides what follows for its line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from factory.floor import attempt_files, attempts
from factory.floor.attempt_files import Outcome
from factory.floor.exit_class import classify
from factory.floor.lines import Attempt, ExitClass, Line, LineState, Needs
from factory.floor.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a store with one line that runs its first attempt."""
    store = Store(tmp_path / "floor", create=True)
    line = store.add_line(
        Line(
            id=0,
            name="line",
            task="cartpole_swingup",
            overrides=("task=cartpole_swingup",),
            spec_hash="x",
            total_steps=100,
            needs=Needs(cores=1.0, memory_bytes=1),
            run_dir=str(tmp_path / "floor" / "lines" / "{id}" / "run"),
        )
    )
    start(store, line)
    return store


def start(store: Store, line: Line) -> None:
    """Move a queued line to its next attempt, which has a folder and no process."""
    number = line.attempts + 1
    folder = store.root / "lines" / str(line.id) / str(number)
    folder.mkdir(parents=True)
    line = store.move(line, LineState.STARTING, "starts", attempts=number)
    steps = attempts.progress.kept_steps(Path(line.run_dir))
    store.add_attempt(
        Attempt(
            line=line.id, number=number, folder=str(folder), handle=None, started_at=1.0, steps_from=steps
        )
    )
    store.move(line, LineState.RUNNING, "runs")


def end(store: Store, exit_class: ExitClass | None, cause: str = "", *, steps: int = 0) -> Line:
    """End the newest attempt of the line, whose checkpoint has some steps by then; return the line."""
    line = store.line(1)
    attempt = store.last_attempt(1)
    assert attempt is not None
    if steps:
        folder = Path(line.run_dir) / "checkpoints"
        (folder / str(steps)).mkdir(parents=True, exist_ok=True)
        (folder / "last").unlink(missing_ok=True)
        (folder / "last").symlink_to(str(steps))
    outcome = None
    if exit_class is not None:
        outcome = Outcome(
            exit_class=exit_class,
            status=1,
            root_cause=cause,
            started_at=1.0,
            ended_at=2.0,
            cpu_s=3.0,
            peak_memory_bytes=4,
        )
    return attempts.settle(store, line, attempt, outcome, joules=5.0)


def test_a_line_that_ended_well_is_finished(store: Store) -> None:
    """The attempt keeps CPU time and energy."""
    line = end(store, ExitClass.OK)
    assert (line.state, line.exit_class) == (LineState.FINISHED, ExitClass.OK)
    attempt = store.last_attempt(1)
    assert attempt is not None
    assert (attempt.cpu_s, attempt.joules) == (3.0, 5.0)


def test_a_mistake_of_the_user_is_never_repeated(store: Store) -> None:
    """Exit status 2 fails the line at once, with the message."""
    line = end(store, ExitClass.USER_ERROR, "error: seed=-1")
    assert (line.state, line.reason) == (LineState.FAILED, "error: seed=-1")


def test_a_preempted_line_waits_again_at_once(store: Store) -> None:
    """No failure is counted and nothing delays it."""
    line = end(store, ExitClass.PREEMPTED, "preempt", steps=40)
    assert (line.state, line.failures, line.not_before, line.steps) == (LineState.QUEUED, 0, 0.0, 40)


def test_a_crash_without_progress_is_tried_three_times(store: Store) -> None:
    """The same cause three times in a row without a new checkpoint ends the line; delays double."""
    delays: list[float] = []
    for failures in (1, 2):
        line = end(store, ExitClass.CRASH, "error: boom")
        assert (line.state, line.failures) == (LineState.QUEUED, failures)
        delays.append(line.not_before - line.state_since)
        start(store, line)
    assert delays[1] == pytest.approx(2 * delays[0], rel=0.01)
    line = end(store, ExitClass.CRASH, "error: boom")
    assert line.state is LineState.FAILED
    assert "3 attempts without progress" in line.reason


def test_progress_forgives_earlier_failures(store: Store) -> None:
    """An attempt that wrote a further checkpoint starts the count again."""
    for steps in (10, 20, 30, 40, 50):
        line = end(store, ExitClass.CRASH, "error: boom", steps=steps)
        assert (line.state, line.failures) == (LineState.QUEUED, 1)
        start(store, line)


def test_another_cause_is_counted_by_itself(store: Store) -> None:
    """Only a cause that comes back is held against a line."""
    for cause in ("disk", "network", "disk", "network", "disk"):
        line = end(store, ExitClass.CRASH, cause)
        assert (line.state, line.failures) == (LineState.QUEUED, 1)
        start(store, line)


def test_a_lost_attempt_is_judged_by_the_summary(store: Store) -> None:
    """Without a word of the wrapper, a run with summary and all its steps is finished; any other goes on."""
    line = end(store, None)
    assert (line.state, line.exit_class) == (LineState.QUEUED, ExitClass.LOST)
    start(store, line)
    run_dir = Path(line.run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "summary.json").write_text(json.dumps({"status": "finished"}))
    assert end(store, None, steps=50).state is LineState.QUEUED
    start(store, store.line(1))
    assert end(store, None, steps=100).state is LineState.FINISHED


def test_a_cancelled_line_stays_cancelled(store: Store) -> None:
    """The reason in the attempt's folder decides, since the training's exit status does not tell."""
    attempt = store.last_attempt(1)
    assert attempt is not None
    attempt_files.write_reason(Path(attempt.folder), "cancel")
    assert end(store, ExitClass.KILLED).state is LineState.CANCELLED


@pytest.mark.parametrize(
    ("status", "reason", "stderr", "expected"),
    [
        (0, "", "", ExitClass.OK),
        (0, "preempt", "", ExitClass.OK),
        (2, "", "error: seed=x", ExitClass.USER_ERROR),
        (130, "preempt", "", ExitClass.PREEMPTED),
        (130, "drain", "", ExitClass.PREEMPTED),
        (130, "cancel", "", ExitClass.KILLED),
        (130, "", "", ExitClass.KILLED),
        (-9, "", "", ExitClass.KILLED),
        (-9, "stalled", "", ExitClass.STALLED),
        (-11, "", "", ExitClass.CRASH),
        (1, "", "error: boom", ExitClass.CRASH),
        (1, "", "error: out of memory", ExitClass.OOM),
    ],
)
def test_exit_status_and_reason_make_the_class(
    tmp_path: Path, status: int, reason: str, stderr: str, expected: ExitClass
) -> None:
    """Every way to end has its class."""
    (tmp_path / "stderr").write_text(f"some output\n{stderr}\n")
    if reason:
        attempt_files.write_reason(tmp_path, reason)
    found = classify(status, folder=tmp_path, run_dir=tmp_path / "run", since=0.0, was_out_of_memory=False)
    assert found["exit_class"] is expected


def test_the_kernel_ends_what_needs_too_much(tmp_path: Path) -> None:
    """SIGKILL after the control group ran out of memory is named as that."""
    found = classify(-9, folder=tmp_path, run_dir=tmp_path, since=0.0, was_out_of_memory=True)
    assert found["exit_class"] is ExitClass.OOM


def test_a_training_that_left_evidence_has_diverged(tmp_path: Path) -> None:
    """A folder `fault` written by this attempt tells divergence from a crash; an older one does not."""
    (tmp_path / "fault").mkdir()
    for since, expected in ((0.0, ExitClass.DIVERGED), (4e9, ExitClass.CRASH)):
        found = classify(1, folder=tmp_path, run_dir=tmp_path, since=since, was_out_of_memory=False)
        assert found["exit_class"] is expected


def test_an_attempt_starts_once(tmp_path: Path) -> None:
    """Whoever comes second finds the attempt taken, also when it was given up."""
    assert attempt_files.claim(tmp_path)
    assert not attempt_files.claim(tmp_path)
    assert not attempt_files.give_up(tmp_path)
    handle = attempt_files.read_handle(tmp_path, engine="local")
    assert handle == replace(attempt_files.own_handle(engine="local"))
    (tmp_path / "started.json").unlink()
    assert attempt_files.give_up(tmp_path)
    assert not attempt_files.claim(tmp_path)
    assert attempt_files.read_handle(tmp_path, engine="local") is None


def test_a_resumed_attempt_names_only_what_a_folder_may_not_decide(store: Store) -> None:
    """The run's own configuration counts; plug-ins and files are named again."""
    line = replace(
        store.line(1), overrides=("experiment=smoke", "seed=3", "plugins=[/a.py]", "robot=file:/r.xml")
    )
    fresh = attempts.arguments(line, store.root, kept=0)
    assert fresh[:5] == ["energy.scope=process", *line.overrides]
    assert f"hydra.run.dir={line.run_dir}" in fresh
    again = attempts.arguments(line, store.root, kept=40)
    assert again[:2] == ["plugins=[/a.py]", "robot=file:/r.xml"]
    assert f"resume={line.run_dir}" in again
    assert not any(argument.startswith(("experiment", "seed", "hydra")) for argument in again)
