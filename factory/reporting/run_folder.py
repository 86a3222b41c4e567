"""Read what a run left in its folder, as far as it came."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.runtime import stored_files
from factory.runtime.stored_files import visible

_LAST_TIME_S = 253_402_300_800.0
"""End of the year 9999, beyond which there are no dates [s since 1970]."""
_LARGEST_NUMBER = 1e100


@dataclass(kw_only=True)
class Record:
    """One iteration of `metrics.jsonl`."""

    step: int
    time_unix_s: float
    metrics: dict[str, float]

    @property
    def is_final(self) -> bool:
        """True for the last row, which includes the joules of evaluation, video and export."""
        return "factory/usd" in self.metrics


def read_records(path: Path) -> list[Record]:
    """Read the iterations, in order of env steps.

    Lines cut off by a crash are skipped. After a resume the file goes back to the checkpoint's step:
    iterations that were done twice count once, as done last.
    """
    if not path.exists():
        return []
    records: list[Record] = []
    for line in stored_files.read_lines(path):
        try:
            row = stored_files.parse_json(line, name=path.name)
            record = Record(
                step=int(row["step"]),
                time_unix_s=float(row["time_unix_s"]),
                metrics=_numbers(row["metrics"]),
            )
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            continue
        if not (0.0 <= record.time_unix_s < _LAST_TIME_S and 0 <= record.step < 2**63):
            continue
        # A step that was reached before was undone by a resume, with everything after it.
        while records and records[-1].step >= record.step:
            records.pop()
        records.append(record)
    return records


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    """Return the metrics that are numbers; JSON has `null` for those that are not finite."""
    return {key: _number(value) for key, value in metrics.items() if isinstance(value, int | float)}


def _number(value: int | float) -> float:
    """Return a number as a float, infinity where it is too large to be drawn and added up."""
    if abs(value) > _LARGEST_NUMBER:
        return math.inf
    return float(value)


def read_reward_terms(path: Path) -> dict[str, list[float]]:
    """Read the table of reward terms by column, `step` first; empty if there is none.

    Cut-off rows and rows done again after a resume are dropped, as in `read_records`.
    """
    if not path.exists():
        return {}
    try:
        lines = list(csv.reader(stored_files.read_lines(path)))
    except csv.Error:
        # A cell is absurdly long.
        return {}
    if not lines:
        return {}
    header = lines[0]
    rows: list[list[float]] = []
    for line in lines[1:]:
        try:
            # An empty cell is a term that was not defined in this iteration.
            row = [_number(float(cell or "nan")) for cell in line]
        except ValueError:
            continue
        if len(row) == len(header) and math.isfinite(row[0]):
            while rows and rows[-1][0] >= row[0]:
                rows.pop()
            rows.append(row)
    if not rows:
        return {}
    # Rows of iterations become one column for each term.
    columns = map(list, zip(*rows, strict=True))
    return dict(zip(header, columns, strict=True))


@dataclass(kw_only=True)
class Run:
    """Contents of a run folder."""

    folder: Path
    status: str
    device: str
    metrics: dict[str, float]
    tags: dict[str, str]
    versions: dict[str, str]
    determinism: dict[str, str]
    """Conditions under which the run repeats, see `factory.runtime.determinism`; empty if not recorded."""
    mlflow_run_id: str | None
    records: list[Record]
    reward_terms: dict[str, list[float]]
    config_text: str
    overrides: list[str] | None
    videos: list[Path]

    @property
    def tier(self) -> str:
        """Energy tier of the run, empty if not recorded."""
        return self.tags.get("energy.tier", "")


def read_run(folder: Path) -> Run:
    """Read whatever there is; without `summary.json` the last known value of every metric stands in.

    Raises:
        ValueError: the folder holds a link out of it or a pipe, or a file is absurdly large.
    """
    stored_files.check_folder(folder, key="run")
    records = read_records(folder / "metrics.jsonl")
    # Not every row has every metric: no return before an episode has ended, for instance.
    metrics: dict[str, float] = {}
    for record in records:
        metrics |= record.metrics
    summary = _read_summary(folder / "summary.json")
    # The summary is the last word: it has metrics of stages that log no row.
    metrics |= _numbers(summary.get("metrics", {}))
    config_path = folder / "config.yaml"
    config_text = ""
    if config_path.exists():
        config_text = stored_files.read_text(config_path, limit=stored_files.MAX_YAML_BYTES)
    return Run(
        folder=folder,
        status=visible(str(summary.get("status", "unknown"))),
        device=visible(str(summary.get("device", ""))),
        metrics=metrics,
        tags=_texts(summary.get("tags", {})),
        versions=_texts(summary.get("versions", {})),
        determinism=_texts(summary.get("determinism", {})),
        mlflow_run_id=_text_or_none(summary.get("mlflow_run_id")),
        records=records,
        reward_terms=read_reward_terms(folder / "reward_terms.csv"),
        config_text=config_text,
        overrides=_read_overrides(folder / ".hydra" / "overrides.yaml"),
        videos=sorted((folder / "videos").glob("*.mp4")),
    )


def _texts(values: dict[str, Any]) -> dict[str, str]:
    """Return the entries of a mapping as texts that a terminal shows as they are."""
    return {visible(key): visible(str(value)) for key, value in values.items()}


def _text_or_none(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return None


def _read_summary(path: Path) -> dict[str, Any]:
    """Return the summary, empty if there is none that can be read."""
    try:
        summary = stored_files.read_json(path)
    except ValueError:
        return {}
    if not isinstance(summary, dict):
        return {}
    # A table where something else is written would fail far from here.
    tables = ("metrics", "tags", "versions", "determinism")
    return {key: value for key, value in summary.items() if key not in tables or isinstance(value, dict)}


def _read_overrides(path: Path) -> list[str] | None:
    """Return the overrides of the command line, None if they are not on record."""
    try:
        overrides = stored_files.read_yaml(path)
    except ValueError:
        return None
    if not isinstance(overrides, list):
        return None
    return [str(item) for item in overrides]
