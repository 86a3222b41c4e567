"""A projection as a run of MLflow: inputs as parameters, quantiles as metrics, JSON and page as artifacts."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from factory.site.command_line import SiteConfig
from factory.site.projection import DISCLAIMER, Projection
from factory.site.quantities import quantiles
from factory.tracking.config import TrackingConfig
from factory.tracking.store import (
    artifact_location,
    connect,
    ensure_experiment,
    import_mlflow_quietly,
    source_tags,
    tolerating_absence,
)
from factory.tracking.uri import resolve_uri

EXPERIMENT = "site"
_LOGGED = (
    "good_policies_per_day",
    "good_policies_per_mw_day",
    "gtokens_per_day",
    "capex_usd_per_year",
    "electricity_usd_per_year",
    "cost_usd_per_year",
    "breakeven_usd_per_policy",
    "breakeven_usd_per_gtoken",
    "payback_years",
    "tco2e_per_year",
    "utilisation",
)
"""Outputs that are worth a column in a table of runs."""
_LONGEST_PARAMETER = 500


def log_projections(found: Sequence[Projection], *, files: Sequence[Path], cfg: SiteConfig) -> None:
    """Log a run for each projection; a store that is away costs a warning and nothing else."""
    import_mlflow_quietly()
    tracking = TrackingConfig(uri=cfg.uri)
    output_root = Path(cfg.output_root)
    with tolerating_absence("log the projection"):
        # The same store as that of trainings, so that projections stand beside the runs they come from.
        uri = resolve_uri(tracking, output_root=output_root)
        output_root.mkdir(parents=True, exist_ok=True)
        client = connect(uri)
        location = artifact_location(uri, output_root=output_root, experiment=EXPERIMENT)
        experiment = ensure_experiment(client, EXPERIMENT, location=location)
        for projection in found:
            _log(client, experiment, projection, files)


def metrics(projection: Projection) -> dict[str, float]:
    """Return the median and the 90 % interval of the main outputs, under keys of MLflow."""
    found: dict[str, float] = {}
    for output in _LOGGED:
        for name, value in zip(("q05", "q50", "q95"), projection.quantiles(output), strict=True):
            # A payback that never comes is no number.
            if math.isfinite(value):
                found[f"site/{output}/{name}"] = value
    return found | {
        "site/pays_back_within_life": projection.pays_back,
        "site/extrapolation_factor": projection.extrapolation_factor,
    }


def parameters(projection: Projection) -> dict[str, str]:
    """Return the inputs as texts: median and interval."""
    found: dict[str, str] = {"site": projection.site.name, "seed": str(projection.assumptions.seed)}
    for quantity in projection.quantities:
        low, typical, high = quantiles(quantity)
        found[f"inputs.{quantity.name}"] = f"{typical:.6g} [{low:.6g}, {high:.6g}]"
    found["from"] = projection.workload.origin[:_LONGEST_PARAMETER]
    return found


def tags(projection: Projection) -> Mapping[str, str]:
    """Return the tags of the run; its note says that it is no measurement."""
    work = projection.workload
    return {
        **source_tags({}),
        "task": work.task,
        "energy.tier": str(work.tier),
        "energy.boundary": work.boundary,
        "mlflow.note.content": f"{DISCLAIMER}; extrapolation factor {projection.extrapolation_factor:.2g}.",
    }


def _log(client: object, experiment: str, projection: Projection, files: Sequence[Path]) -> None:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    assert isinstance(client, MlflowClient)
    run = client.create_run(experiment, run_name=f"site {projection.site.name}", tags=dict(tags(projection)))
    now_ms = int(time.time() * 1000)
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(key, value, now_ms, 0) for key, value in metrics(projection).items()],
        params=[Param(key, value) for key, value in parameters(projection).items()],
    )
    for path in files:
        client.log_artifact(run.info.run_id, str(path))
    client.set_terminated(run.info.run_id)
