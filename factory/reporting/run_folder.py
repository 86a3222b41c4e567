"""Read what a run left in its folder, as far as it came."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf


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
    records: list[Record] = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
            metrics = {key: value for key, value in row["metrics"].items() if value is not None}
            record = Record(step=row["step"], time_unix_s=row["time_unix_s"], metrics=metrics)
        except (ValueError, TypeError, KeyError):
            continue
        while records and records[-1].step >= record.step:
            records.pop()
        records.append(record)
    return records


def read_reward_terms(path: Path) -> dict[str, list[float]]:
    """Read the table of reward terms by column, `step` first; empty if there is none.

    Cut-off rows and rows done again after a resume are dropped, as in `read_records`.
    """
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        header, *lines = list(csv.reader(file)) or [[]]
    rows: list[list[float]] = []
    for line in lines:
        try:
            row = [float(cell or "nan") for cell in line]
        except ValueError:
            continue
        if len(row) == len(header):
            while rows and rows[-1][0] >= row[0]:
                rows.pop()
            rows.append(row)
    return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True)) if rows else {}


@dataclass(kw_only=True)
class Run:
    """Contents of a run folder."""

    folder: Path
    status: str
    device: str
    metrics: dict[str, float]
    tags: dict[str, str]
    versions: dict[str, str]
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
    """Read whatever there is; without `summary.json` the last known value of every metric stands in."""
    records = read_records(folder / "metrics.jsonl")
    metrics: dict[str, float] = {}
    for record in records:
        metrics |= record.metrics
    summary_path, config_path = folder / "summary.json", folder / "config.yaml"
    overrides_path = folder / ".hydra" / "overrides.yaml"
    summary = json.loads(summary_path.read_text()) if summary_path.exists() else {}
    metrics |= {key: value for key, value in summary.get("metrics", {}).items() if value is not None}
    return Run(
        folder=folder,
        status=summary.get("status", "unknown"),
        device=summary.get("device", ""),
        metrics=metrics,
        tags={key: str(value) for key, value in summary.get("tags", {}).items()},
        versions={key: str(value) for key, value in summary.get("versions", {}).items()},
        mlflow_run_id=summary.get("mlflow_run_id"),
        records=records,
        reward_terms=read_reward_terms(folder / "reward_terms.csv"),
        config_text=config_path.read_text() if config_path.exists() else "",
        overrides=[str(item) for item in OmegaConf.load(overrides_path)] if overrides_path.exists() else None,
        videos=sorted((folder / "videos").glob("*.mp4")),
    )
