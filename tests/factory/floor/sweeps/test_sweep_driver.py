"""Sweeps on the floor: lines, promotions, copies and records, with run folders as trainings leave them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from factory.floor import attempts
from factory.floor.lines import Line, LineState, Needs
from factory.floor.store import Store
from factory.floor.sweeps import driver, methods, table, view
from factory.floor.sweeps.methods import SweepPlan, SweepSettings
from factory.floor.sweeps.table import StoredSweep
from factory.floor.sweeps.trials import TrialState
from factory.training import checkpoint
from factory.training.checkpoint import Checkpoint

METRIC = "eval/return_mean"
RANGES = ("learner.learning_rate=1e-4,1e-3,1e-2", "learner.gamma=0.9,0.95,0.99")


def template(root: Path) -> Line:
    return Line(
        id=0,
        name="cartpole",
        task="cartpole_swingup",
        overrides=("task=cartpole_swingup", "total_steps=900", "runtime.torch_threads=1"),
        spec_hash="a hash",
        total_steps=900,
        needs=Needs(cores=1.0, memory_bytes=1 << 20),
        run_dir=str(root / "lines" / "{id}" / "cartpole"),
    )


def plan(method: str, **settings: object) -> SweepPlan:
    return methods.plan(method, SweepSettings(**settings), RANGES, total_steps=900)  # type: ignore[arg-type]


def train(store: Store, line: Line, value: float | None) -> Line:
    """Let a queued line train to its end and leave a summary and a checkpoint."""
    line = store.move(line, LineState.STARTING, "starts", attempts=line.attempts + 1)
    run_dir = Path(line.run_dir)
    tensors = {"policy": {"weight": torch.full((1,), float(line.total_steps))}}
    taken = Checkpoint(env_steps=line.total_steps, tensors=tensors, state={}, config={})
    checkpoint.save(taken, run_dir / "checkpoints", keep=1)
    metrics = {} if value is None else {METRIC: value}
    (run_dir / "summary.json").write_text(json.dumps({"status": "finished", "metrics": metrics}))
    line = store.move(line, LineState.RUNNING, "runs")
    return store.move(line, LineState.FINISHED, "finished", steps=line.total_steps)


def run_all(
    store: Store, sweep: StoredSweep, value_of: Callable[[Line], float | None], *, ticks: int = 100
) -> None:
    """Train one queued line a tick until none is left."""
    if not store.lines():
        driver.advance(store, [sweep])
    for _ in range(ticks):
        driver.advance(store, table.with_news(store))
        queued = store.lines((LineState.QUEUED,))
        if not queued:
            return
        train(store, queued[-1], value_of(queued[-1]))


def quality(line: Line) -> float:
    """Return a value that grows with gamma, the step size and the steps."""
    values = dict(override.split("=", 1) for override in line.overrides)
    return 1000 * float(values["learner.gamma"]) + float(values["learner.learning_rate"]) + line.total_steps


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "floor", create=True)


def test_asha_promotes_lines_in_their_run_folder(store: Store) -> None:
    """Nine lines at the first rung, three at the second, one at the last: the best of the grid."""
    sweep = table.add_sweep(store, plan("asha"), template(store.root))
    assert sweep.plan.rungs == (100, 300, 900)
    run_all(store, sweep, quality)
    lines = store.lines()
    assert [line.total_steps for line in lines].count(100) == 6
    assert [line.total_steps for line in lines].count(300) == 2
    (winner,) = (line for line in lines if line.total_steps == 900)
    assert winner.overrides[-3:] == ("learner.learning_rate=0.01", "learner.gamma=0.99", "stop_at_steps=900")
    # The next attempt resumes, and is told the new end.
    arguments = attempts.arguments(winner, store.root, kept=300)
    assert f"resume={winner.run_dir}" in arguments and "stop_at_steps=900" in arguments
    state = view.plain(store, sweep)
    assert (state["env_steps"], state["state"]) == (6 * 100 + 2 * 300 + 900, "ended")
    assert [state["trials"][number]["line"] for number in state["best"]] == [winner.id]
    assert store.verify_events() > 0


def test_decisions_are_made_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power loss amid a decision leaves nothing of it; it is made again, and then no more."""
    sweep = table.add_sweep(store, plan("asha"), template(store.root))
    driver.advance(store, [sweep])
    for line in store.lines():
        train(store, line, quality(line))
    before = store.lines()

    put_trial = table.put_trial
    calls: list[int] = []

    def lose_power(*arguments: object) -> None:
        calls.append(1)
        if len(calls) == 11:
            raise KeyboardInterrupt
        put_trial(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(table, "put_trial", lose_power)
        driver.advance(store, [sweep])
    assert store.lines() == before
    assert {entry.trial.values for entry in table.trials(store, sweep).values()} == {()}

    driver.advance(store, [sweep])
    promoted = store.lines((LineState.QUEUED,))
    assert len(promoted) == 3
    after = table.trials(store, sweep)
    driver.advance(store, [sweep])
    assert store.lines((LineState.QUEUED,)) == promoted
    assert table.trials(store, sweep) == after


def test_failed_and_cancelled_lines_are_no_winners(store: Store) -> None:
    """A trial whose line failed, was cancelled, or has no metric competes no more; the sweep goes on."""
    sweep = table.add_sweep(store, plan("asha"), template(store.root))
    driver.advance(store, [sweep])
    lines = store.lines()
    store.move(lines[8], LineState.FAILED, "crash")
    store.move(lines[7], LineState.CANCELLED, "cancelled by a user")
    train(store, lines[6], None)
    run_all(store, sweep, quality)
    states = [entry.trial.state for entry in table.trials(store, sweep).values()]
    assert states[6:] == [TrialState.STOPPED, TrialState.STOPPED, TrialState.FAILED]
    assert states[5] == TrialState.DONE


def test_exploits_start_from_a_copy_that_stays(store: Store) -> None:
    """A member that is replaced gets a line that starts from the best one's checkpoint at the rung."""
    sweep = table.add_sweep(store, plan("pbt", trials=4, rungs=[300, 600, 900]), template(store.root))
    driver.advance(store, [sweep])
    for line in store.lines():
        train(store, line, quality(line))
    driver.advance(store, [sweep])
    *members, copy = store.lines()
    best = max(members, key=quality)
    assert {"total_steps=600", "stop_at_steps=300"} <= set(copy.overrides)
    assert copy.total_steps == 300
    (origin,) = (override for override in copy.overrides if override.startswith("start_from="))
    folder = Path(origin.partition("=")[2].strip("'"))
    train(store, store.line(best.id), quality(best))
    kept = checkpoint.load(folder, key="start_from")
    assert kept.env_steps == 300
    assert torch.equal(kept.tensors["policy"]["weight"], torch.full((1,), 300.0))
    trial = table.trials(store, sweep)[4].trial
    assert (trial.first_rung, trial.parent) == (1, best.id - 1)
    run_all(store, sweep, quality)
    assert view.plain(store, sweep)["state"] == "ended"
    done = [e.trial for e in table.trials(store, sweep).values() if e.trial.state == TrialState.DONE]
    assert len(done) == 4


def test_interrupted_copy_is_made_again(store: Store, tmp_path: Path) -> None:
    """Half a copy, as a power loss leaves it, is replaced; a whole one is kept."""
    line = train(store, store.add_line(template(store.root)), 1.0)
    folder = tmp_path / "copies" / "4"
    half = tmp_path / "copies" / ".4.part" / "checkpoints"
    half.mkdir(parents=True)
    (half / "garbage").touch()
    driver.copy_checkpoint(Path(line.run_dir), folder)
    assert checkpoint.load(folder).env_steps == 900
    weight = folder / "checkpoints" / "last" / "policy.safetensors"
    assert safetensors.torch.load_file(weight)["weight"].item() == 900.0
    before = weight.stat().st_mtime_ns
    driver.copy_checkpoint(Path(line.run_dir), folder)
    assert weight.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("method", "settings", "expected"),
    [
        ("random", {}, "trials=0: random needs the number of trials"),
        ("pbt", {}, "trials=0: pbt needs the number of trials"),
        ("grid", {"trials": 3}, "trials=3: a grid is tried whole"),
        ("grid", {"rungs": [100]}, r"rungs=\[100\]: grid has none"),
        (
            "asha",
            {"rungs": [100, 1000]},
            r"rungs=\[100, 1000\]: the last one must be at most",
        ),
        ("asha", {"rungs": [300, 100]}, r"rungs=\[300, 100\]: give environment steps in ascending order"),
        ("asha", {"metric": ["eval/retrun_mean"]}, "metric=eval/retrun_mean: did you mean eval/return_mean"),
        ("asha", {"metric": ["return"]}, "metric=return: name a metric as summary.json has it"),
        ("asha", {"eta": 1}, "eta=1: must be at least 2"),
        ("asha", {"metric": [METRIC, "energy/total_j"]}, "asha takes one; choose tpe or gp"),
    ],
)
def test_wrong_settings_are_named(method: str, settings: dict[str, object], expected: str) -> None:
    """Each mistake names key and value and what to do."""
    with pytest.raises(ValueError, match=expected):
        plan(method, **settings)


def test_pareto_front_is_best_of_two_objectives() -> None:
    """With return and joules, every trial that none beats in both is among the best."""
    from factory.floor.sweeps.trials import Trial

    points = [(10.0, 5.0), (9.0, 4.0), (8.0, 6.0), (10.0, 7.0)]
    trials = [
        Trial(id=number, overrides=()).after_rung(point, steps=1, num_rungs=1)
        for number, point in enumerate(points)
    ]
    trials.append(Trial(id=4, overrides=()).after_failure())
    assert [trial.id for trial in view.best(trials, signs=(1, -1))] == [0, 1]
    assert [trial.id for trial in view.best(trials, signs=(-1,))] == [2]


def test_a_cancelled_sweep_starts_nothing_more(store: Store) -> None:
    """Its running lines are ordered to end, trials at a rung stop, later outcomes change nothing."""
    sweep = table.add_sweep(store, plan("asha"), template(store.root))
    driver.advance(store, [sweep])
    first = store.lines()[0]
    train(store, first, 1.0)
    driver.advance(store, table.with_news(store))
    running = [line.id for line in store.lines((LineState.QUEUED,))]
    assert driver.cancel(store, sweep) == running
    assert [command.line for command in store.pending_commands()] == running
    for number in running:
        store.move(store.line(number), LineState.CANCELLED, "cancelled by a user")
    num_lines = len(store.lines())
    driver.advance(store, table.with_news(store))
    assert len(store.lines()) == num_lines
    state = view.plain(store, sweep)
    assert state["state"] == "cancelled"
    assert {trial["state"] for trial in state["trials"]} == {"stopped"}
    assert view.summary(state).startswith("sweep 1 (asha): cancelled, 9 trials")
    with pytest.raises(ValueError, match="ended already"):
        driver.cancel(store, sweep)
