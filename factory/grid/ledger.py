"""Costs of lines in the experiment tracker, beside the metrics of their runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from factory.floor.lines import Line
from factory.grid import costs
from factory.grid.costs import Cost
from factory.tracking.config import TrackingConfig
from factory.tracking.run_ids import is_own_run, read_ids
from factory.tracking.store import connect, import_mlflow_quietly
from factory.tracking.uri import resolve_uri, sqlite_path


def log_costs(found: Mapping[Line, Cost], *, root: Path, uri: str) -> int:
    """Log `cost/*` and `carbon/*` of lines to their runs, and return how many runs there are.

    Args:
        found: costs by line.
        root: root of the floor, which holds the store of its lines.
        uri: tracking URI if the lines were tracked elsewhere; empty for the floor's own store.

    Raises:
        ValueError: There is no such store.
    """
    store = resolve_uri(TrackingConfig(uri=uri), output_root=root)
    database = sqlite_path(store)
    if database is not None and not database.exists():
        raise ValueError(f"--uri={store}: no such database; name the store of the lines' runs")
    import_mlflow_quietly()
    from mlflow.entities import Metric
    from mlflow.exceptions import MlflowException

    client = connect(store)
    now_ms = int(time.time() * 1000)
    num_runs = 0
    for line, cost in found.items():
        ids = read_ids(Path(line.run_dir))
        metrics = costs.metrics(cost)
        if "run_id" not in ids or not metrics:
            continue
        try:
            run = client.get_run(ids["run_id"])
        except MlflowException:
            # Tracked in another store.
            continue
        # A run folder may come from anybody; only its own run has its key.
        if not is_own_run(run, ids.get("run_key")):
            continue
        rows = [Metric(key, value, now_ms, line.steps) for key, value in metrics.items()]
        client.log_batch(ids["run_id"], metrics=rows)
        num_runs += 1
    return num_runs
