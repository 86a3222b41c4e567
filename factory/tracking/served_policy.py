"""The loader that MLflow stores with a policy; it needs torch and MLflow, not this project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.pyfunc import PythonModel


class ServedPolicy(PythonModel):
    """Deterministic actions from the exported program in the model's artifacts."""

    def load_context(self, context: Any) -> None:
        """Load `policy.pt2`, which was exported on the CPU and runs there."""
        # No import of this project: the model must load on a machine that has only torch and MLflow.
        self._policy = torch.export.load(Path(context.artifacts["policy"]) / "policy.pt2").module()

    def predict(
        self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        """Return actions `(batch, ...)` for observations `(batch, obs_dim)` float32."""
        with torch.no_grad():
            return self._policy(torch.tensor(model_input, dtype=torch.float32)).numpy()


# MLflow runs this file as code of the model and takes the object that is set here.
mlflow.models.set_model(ServedPolicy())
