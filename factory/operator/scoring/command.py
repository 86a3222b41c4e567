"""`floor score`: trials that are not done yet, and the table of all of them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from factory import cli
from factory.operator.scoring import library, live, replay, show, summary
from factory.operator.scoring.cases import QUIET, Case
from factory.operator.scoring.config import ORACLE, ScoreConfig
from factory.operator.scoring.measure import LIVE, REPLAYED, Outcome
from factory.runtime import hardware, provenance, stored_files
from factory.runtime.atomic_write import atomic_write
from factory.runtime.plain_types import check_mapping

_TRIALS = "trials.jsonl"
_MOST_BYTES = 256 << 20


def score(given: argparse.Namespace) -> int:
    """Run the trials that are missing, print and write the table; return 1 if one was not possible."""
    cfg = cli.parse(ScoreConfig, given.overrides)
    cli.check_output(cfg.out, key="out", suffix=".json")
    folder = given.root / "score"
    cli.check_writable(folder, key="--root")
    folder.mkdir(parents=True, exist_ok=True)
    book = Book(folder / _TRIALS)
    is_whole = _run_live(cfg, book, folder)
    recordings = library.read(folder)
    _run_replayed(cfg, book, folder, recordings)
    chosen = [one for one in book.outcomes if _is_chosen(one, cfg)]
    rows = summary.rows(chosen)
    totals = summary.totals(chosen)
    show.show(rows, totals)
    if cfg.out:
        _write(Path(cfg.out), rows, totals, chosen)
    return int(not is_whole)


class Book:
    """Outcomes that are on the disk; an interrupted score resumes from them."""

    def __init__(self, file: Path) -> None:
        """Read what is there; a half-written last line is none."""
        self._file = file
        self.outcomes: list[Outcome] = []
        if os.path.lexists(file):
            whole = stored_files.read_bytes(file, limit=_MOST_BYTES).rpartition(b"\n")[0]
            self.outcomes = [_outcome(line, file) for line in whole.splitlines()]
            # The half-written line goes, or the next outcome would be appended to it.
            file.write_bytes(whole + b"\n" * bool(whole))

    def has(self, case: str, decider: str, seed: int, kind: str) -> bool:
        """Return whether a trial is done."""
        return any(one.key == (case, decider, seed, kind) for one in self.outcomes)

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome."""
        with self._file.open("a") as file:
            file.write(json.dumps(outcome.to_plain()) + "\n")
        self.outcomes.append(outcome)


def _outcome(line: bytes, file: Path) -> Outcome:
    try:
        plain = stored_files.parse_json(line, name=file.name)
        check_mapping(plain, Outcome, name=file.name)
        return Outcome(**plain)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file}: damaged ({error}); move it away to score anew") from error


def _run_live(cfg: ScoreConfig, book: Book, folder: Path) -> bool:
    """Run live trials; return False if one was not possible."""
    is_whole = True
    if cfg.live > 0:
        is_whole = _record_healthy(folder)
    for case, decider, seed in _missing(cfg, book, LIVE, range(cfg.live)):
        outcome = _try(case, decider, seed, folder)
        if outcome is None:
            is_whole = False
            continue
        book.add(outcome)
        print(_progress(outcome), flush=True)
    return is_whole


def _record_healthy(folder: Path) -> bool:
    """Record a line to which nothing happens, for model floors; return False if it was not possible."""
    if (_home(QUIET, "none", 0, folder) / live.INJECTED).exists():
        return True
    if _try(QUIET, "none", 0, folder) is None:
        return False
    print(f"{LIVE} {QUIET.name}: recorded", flush=True)
    return True


def _try(case: Case, decider: str, seed: int, folder: Path) -> Outcome | None:
    """Run a live trial; return None, after a line on stderr, if it was not possible."""
    try:
        return live.trial(case, decider=decider, seed=seed, folder=_home(case, decider, seed, folder))
    except (OSError, RuntimeError) as error:
        print(f"left out: {case.name} {decider} {seed}: {cli.one_line(error)}", file=sys.stderr)
        return None


def _home(case: Case, decider: str, seed: int, folder: Path) -> Path:
    """Return the folder of a live trial."""
    return folder / f"{case.name}-{decider}-{seed}"


def _run_replayed(cfg: ScoreConfig, book: Book, folder: Path, recordings: library.Library) -> None:
    """Run the trials under an injected clock, as far as there are recordings."""
    for case, decider, seed in _missing(cfg, book, REPLAYED, range(cfg.seeds)):
        if case.name in recordings.faults:
            journal = None
            if decider == "bandit":
                # What it has learned in one trial it knows in the next.
                journal = folder / f"journal-{case.name}"
                journal.mkdir(exist_ok=True)
            book.add(replay.trial(case, decider=decider, seed=seed, library=recordings, journal=journal))
            if seed == cfg.seeds - 1:
                print(f"{REPLAYED} {case.name} {decider}: {cfg.seeds} seeds", flush=True)
    for decider in cfg.deciders.split(","):
        for seed in range(cfg.hours):
            is_done = book.has(QUIET.name, decider, seed, REPLAYED)
            if not is_done and decider != ORACLE:
                book.add(replay.quiet_hour(decider=decider, seed=seed, library=recordings))
                print(f"{REPLAYED} {decider}: hour {seed + 1} of {cfg.hours} without a fault", flush=True)


def _missing(
    cfg: ScoreConfig, book: Book, kind: str, seeds: Sequence[int]
) -> Iterator[tuple[Case, str, int]]:
    """Yield the trials of a kind that are not done."""
    for case in cfg.cases:
        for decider in cfg.deciders.split(","):
            for seed in seeds:
                # In a live trial nobody knows the truth before the detectors do.
                is_possible = kind == REPLAYED or decider != ORACLE
                if is_possible and not book.has(case.name, decider, seed, kind):
                    yield case, decider, seed


def _is_chosen(outcome: Outcome, cfg: ScoreConfig) -> bool:
    names = [case.name for case in cfg.cases]
    return outcome.decider in cfg.deciders.split(",") and outcome.case in (*names, QUIET.name)


def _progress(one: Outcome) -> str:
    found = "not found"
    if one.latency_s is not None:
        found = f"found after {one.latency_s:.1f} s"
    repaired = "not repaired"
    if one.repair_s is not None:
        repaired = f"repaired after {one.repair_s:.1f} s"
    return f"{one.kind} {one.case} {one.decider} {one.seed}: {found}, {repaired}, {one.actions} actions"


def _write(
    path: Path, rows: list[dict[str, Any]], totals: list[dict[str, Any]], outcomes: list[Outcome]
) -> None:
    """Write everything that there is to know."""
    content = {
        **provenance.git_tags(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": hardware.describe(),
        "rows": rows,
        "totals": totals,
        "trials": [one.to_plain() for one in outcomes],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1) + "\n")
