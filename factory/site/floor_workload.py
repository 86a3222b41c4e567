"""The workload of a floor: the node as its books have it, and the lines that have ended."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from factory.comparison.runs import ComparedRun, select_runs
from factory.energy.types import Tier
from factory.floor.curves import CURVES, Curves, StoredCurve
from factory.floor.lines import Line, LineState
from factory.floor.records import RUNNING, Sample
from factory.floor.store import FILE, Store
from factory.site import workload
from factory.site.workload import Machine, Outcome, Step, Workload

_LONGEST_GAP_S = 5.0
"""Longest time between two samples of a floor that watched."""
_LEAST_STEP_S = 5.0
"""Least time with a number of lines that says something about it."""
_COUNTED = (LineState.FINISHED, LineState.FAILED)


def is_floor(folder: Path) -> bool:
    """Tell whether a folder is the root of a floor."""
    return (folder / FILE).is_file()


def from_floor(root: Path, *, gate: float | None) -> Workload:
    """Return the workload of a floor: all lines that finished or failed, at the node's power.

    Raises:
        ValueError: Nothing has ended there, nothing was metered, or the lines do not belong together.
    """
    with Store(root) as store:
        lines = store.lines(_COUNTED)
        samples = store.samples()
        tier = str(store.get(RUNNING).get("tier", "none"))
        faster = _faster(store.get(CURVES))
    runs = _runs(lines, root)
    if not runs:
        raise ValueError(f"from={root}: no line with a run has ended on this floor; let one finish first")
    tasks = sorted({run.tag("task") for run in runs})
    notes: list[str] = []
    if len(tasks) > 1:
        notes.append(f"A policy stands for the mean of this floor's mix: {', '.join(tasks)}.")
    working = list(_working(samples))
    seconds = math.fsum(after.at - before.at for before, after in working)
    tokens = sum(after.tokens - before.tokens for before, after in working)
    if not tokens > 0:
        raise ValueError(f"from={root}: no sample of working lines on this floor; let one run for a minute")
    # The node's own joules, so that idle power and other processes are in the price of a token.
    joules = math.fsum(after.joules - before.joules for before, after in working)
    mean_w = joules / seconds
    cpu_s = math.fsum(after.cpu_s - before.cpu_s for before, after in working)
    by_line = {run.location: run for run in runs}
    outcomes = tuple(_outcome(line, by_line.get(str(_run_dir(line, root))), gate) for line in lines)
    known = [run for run in runs if "energy/total_j_hi" in run.metrics]
    return Workload(
        origin=f"floor {root}",
        task=", ".join(tasks),
        device=runs[0].tag("device"),
        tier=Tier.worst([_tier(tier), workload.worst_tier(runs)]),
        boundary="node",
        gate=workload.gate_text(runs, gate),
        machine=Machine(
            power_w=workload.relative_bounds(known).map(lambda share: share * mean_w),
            tokens_per_s=tokens / seconds,
            cpu_s_per_token=cpu_s / tokens,
            steps=tuple(_steps(working)),
            faster_tokens_per_s_per_w=faster,
        ),
        outcomes=outcomes,
        uses_gpu=any(run.metrics.get("energy/gpu_j", 0.0) > 0.0 for run in runs),
        notes=(*notes, *workload.notes_on(outcomes)),
    )


def _runs(lines: Sequence[Line], root: Path) -> list[ComparedRun]:
    """Return the runs of lines that left a folder."""
    folders = [str(_run_dir(line, root)) for line in lines]
    folders = [folder for folder in folders if os.path.isfile(f"{folder}/config.yaml")]
    if not folders:
        return []
    return select_runs(folders, output_root=root)


def _run_dir(line: Line, root: Path) -> Path:
    """Return the folder of a line's run below this floor, which may be a stranger's, or moved since."""
    return root.absolute() / "lines" / str(line.id) / Path(line.run_dir).name


def _outcome(line: Line, run: ComparedRun | None, gate: float | None) -> Outcome:
    if line.state is LineState.FAILED or run is None:
        # Its tokens were paid for all the same.
        return Outcome(tokens=float(line.tokens), is_good=False, reason=line.state.value)
    return workload.judge(run, gate)


def _working(samples: Sequence[Sample]) -> Iterator[tuple[Sample, Sample]]:
    """Yield neighbouring samples between which lines ran and the floor watched."""
    for before, after in pairwise(samples):
        has_lines = before.running > 0 and after.running > 0
        if has_lines and 0.0 < after.at - before.at <= _LONGEST_GAP_S:
            yield before, after


def _steps(working: Sequence[tuple[Sample, Sample]]) -> Iterator[Step]:
    """Yield means of power and speed for each number of lines that ran long enough."""
    by_lines: defaultdict[int, list[tuple[Sample, Sample]]] = defaultdict(list)
    for before, after in working:
        if before.running == after.running:
            by_lines[after.running].append((before, after))
    for num_lines, pairs in sorted(by_lines.items()):
        seconds = math.fsum(after.at - before.at for before, after in pairs)
        if seconds < _LEAST_STEP_S:
            continue
        yield Step(
            num_lines=num_lines,
            power_w=math.fsum(after.joules - before.joules for before, after in pairs) / seconds,
            upper_w=fmean(after.power_w for _, after in pairs),
            tokens_per_s=sum(after.tokens - before.tokens for before, after in pairs) / seconds,
            seconds=seconds,
        )


def _faster(stored: Sequence[StoredCurve]) -> float:
    """Return the speed that the last watt brought to lines that did not run at full power all the time."""
    curves = Curves(prior_w_per_core=0.0)
    curves.load(stored)
    slopes: list[float] = []
    for subject in curves.subjects():
        curve = curves.curve(subject)
        # One point and the origin are a straight line, which says nothing of the last watt.
        if len(curve.powers_w) >= 3:
            rise = curve.speeds[-1] - curve.speeds[-2]
            slopes.append(rise / (curve.powers_w[-1] - curve.powers_w[-2]))
    if not slopes:
        return math.nan
    return math.fsum(slopes) / len(slopes)


def _tier(name: str) -> Tier:
    """Return a tier by its name; a combination or an unknown one counts as estimated."""
    if name in set(Tier):
        return Tier(name)
    return Tier.ESTIMATED
