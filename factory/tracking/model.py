"""An exported policy as a model in MLflow's registry."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from factory.policies.export import describe_exported

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import Model

_STEP_TAG = "factory.env_steps"
BUILT_IN_ALIAS = "latest"
"""Alias reserved by MLflow: `models:/<name>@latest` always means the newest version and cannot be set."""


def model_name(task: str) -> str:
    """Return a name that the registry accepts: `gym/half_cheetah` becomes `gym.half_cheetah`."""
    return task.replace("/", ".").replace(":", ".")


def register_policy(
    client: MlflowClient,
    *,
    run_id: str,
    exported: Path,
    name: str,
    alias: str,
    metrics: Mapping[str, float],
    step: int,
) -> str:
    """Log the policy as a model of the run, register it as the next version of `name`, return the version.

    A run and a step have one version: after a kill, or an answer that was lost, it is found and completed.

    It is a pyfunc model around `policy.pt2`, loaded by code stored with it (`served_policy.py`). The pytorch
    flavour fails in `pyfunc.load_model` on any machine with a GPU, because it expects the exported weights
    there, and it would trace the program a second time.
    """
    from mlflow.entities import LoggedModelOutput, Metric
    from mlflow.models import Model

    logged = _logged_model(client, run_id, step)
    if logged.status != "READY":
        # Through a temporary folder: MLflow saves a model to disk before its files can be sent anywhere.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model"
            _save(exported, path, Model(run_id=run_id, model_id=logged.model_id, model_uuid=logged.model_id))
            client.log_model_artifacts(logged.model_id, str(path))
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=step)])
        # Metrics with the id of a model show up beside the model as well as in the run.
        now_ms = int(time.time() * 1000)
        points = [
            Metric(key, value, now_ms, step, model_id=logged.model_id, run_id=run_id)
            for key, value in metrics.items()
        ]
        client.log_batch(run_id, metrics=points)
        # Last, since a model that is ready is taken for a complete one.
        client.finalize_logged_model(logged.model_id, "READY")
    _ensure_registered(client, name)
    version = _version(client, name, logged)
    if version is None:
        # By location, not as `models:/<id>`, which an SQLite registry would look up at the global URI.
        source = logged.artifact_location
        version = client.create_model_version(name, source, run_id=run_id, model_id=logged.model_id).version
    # By this tag the UI links the logged model to the registered version.
    link = json.dumps([{"name": name, "version": version}])
    client.set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": link})
    if alias != BUILT_IN_ALIAS:
        client.set_registered_model_alias(name, alias, version)
    return str(version)


def _logged_model(client: MlflowClient, run_id: str, step: int) -> LoggedModel:
    """Return the model of a run at a step, created if there is none."""
    experiment_id = client.get_run(run_id).info.experiment_id
    found = client.search_logged_models([experiment_id], filter_string=f"source_run_id = '{run_id}'")
    for model in found:
        if model.tags.get(_STEP_TAG) == str(step):
            return model
    return client.create_logged_model(
        experiment_id,
        name="policy",
        source_run_id=run_id,
        model_type="policy",
        tags={_STEP_TAG: str(step)},
    )


def _version(client: MlflowClient, name: str, logged: LoggedModel) -> str | None:
    """Return the version of `name` that a model is registered as, None if it is not."""
    for version in client.search_model_versions(f"run_id = '{logged.source_run_id}'"):
        if version.name == name and version.source == logged.artifact_location:
            return str(version.version)
    return None


def _save(exported: Path, path: Path, model: Model) -> None:
    import mlflow
    import numpy as np
    import torch
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    # The signature lets MLflow check the shapes of requests; -1 stands for the batch size.
    description = describe_exported(exported)
    inputs, outputs = (
        Schema([TensorSpec(np.dtype(description[side]["dtype"]), tuple(description[side]["shape"]))])
        for side in ("input", "output")
    )
    mlflow.pyfunc.save_model(
        path,
        python_model=str(Path(__file__).with_name("served_policy.py")),
        artifacts={"policy": str(exported)},
        signature=ModelSignature(inputs=inputs, outputs=outputs),
        input_example=np.zeros((2, description["input"]["shape"][1]), dtype=np.float32),
        # Listed here because MLflow would otherwise load the model in a second process to detect them.
        pip_requirements=[
            f"mlflow=={mlflow.__version__}",
            f"numpy=={np.__version__}",
            f"torch=={torch.__version__.split('+')[0]}",
        ],
        mlflow_model=model,
    )


def _ensure_registered(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    # Creating and ignoring the clash is safe among processes; asking first would not be.
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
