"""Live trials: a real floor, real lines, real harm."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from factory.operator.scoring import choosers
from factory.operator.scoring.cases import Case
from factory.operator.scoring.injections import INJECTIONS
from factory.operator.scoring.measure import LIVE, Outcome, measure, usual
from factory.operator.scoring.scene import Scene
from factory.operator.scoring.trace import Tick

INJECTED = "injected_s"
"""File with the time of the injection, by the monotonic clock of the machine."""


def trial(case: Case, *, decider: str, seed: int, folder: Path) -> Outcome:
    """Inject a fault into lines that run, watch for the time of the case, and end everything.

    Args:
        case: class of the fault.
        decider: decider of the operator.
        seed: seed of the lines.
        folder: folder for floor and trace; what an interrupted trial left in it is deleted.

    Raises:
        OSError, RuntimeError: the fault cannot be injected here.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with choosers.settings(decider) as overrides:
        scene = Scene(folder, case, overrides=overrides, seed=seed)
        injected_s = _play(scene)
        ticks = scene.ticks()
    return judge(case, ticks, decider=decider, seed=seed, injected_s=injected_s)


def _play(scene: Scene) -> float:
    """Do what a trial is made of, and return the time of the injection."""
    case = scene.case
    injection = INJECTIONS[case.name]
    injected_s = time.monotonic()
    try:
        scene.open(*injection.prepare(scene))
        if not case.starts_ill:
            scene.wait_until_usual()
            injected_s = time.monotonic()
        # Before the harm: a recording is cut here, and nothing after it may count as healthy.
        (scene.folder / INJECTED).write_text(str(injected_s))
        injection.harm(scene)
        time.sleep(max(0.0, injected_s + case.watch_s - time.monotonic()))
    finally:
        scene.close()
    return injected_s


def judge(case: Case, ticks: list[Tick], *, decider: str, seed: int, injected_s: float) -> Outcome:
    """Return the outcome of a trace."""
    before = usual(ticks, injected_s)
    watched_s = 0.0
    if ticks:
        watched_s = max(0.0, ticks[-1]["t"] - injected_s)
    return measure(
        case,
        ticks,
        decider=decider,
        seed=seed,
        kind=LIVE,
        target=1,
        injected_s=injected_s,
        usual_tokens=before.tokens_per_s * watched_s,
        joules_per_token=before.joules_per_token,
    )
