"""Print the MLflow page of the newest run: `python -m factory.tracking.newest <output root>`."""

from __future__ import annotations

import sys
from pathlib import Path

from factory.tracking.store import connect, run_page


def newest_page(output_root: Path) -> str | None:
    """Return the page of the newest run in the store under `output_root`; None if there is none."""
    # Asked for first, since connecting would create a database.
    database = output_root.absolute() / "mlflow.db"
    if not database.exists():
        return None
    uri = f"sqlite:///{database}"
    client = connect(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, order_by=["attributes.start_time DESC"], max_results=1)
    if not runs:
        return None
    return run_page(uri, runs[0].info.run_id)


if __name__ == "__main__":
    print(newest_page(Path(sys.argv[1])) or "no run yet: train one first")
