"""Export a trained policy as one file that needs only torch: observation in, deterministic action out."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from factory.policies.mlp import MlpPolicy

PROGRAM = "policy.pt2"
DESCRIPTION = "policy.json"
PARITY_BATCHES = (1, 2, 7)
PARITY_TOLERANCE = 1e-5


class Deterministic(torch.nn.Module):
    """From observations to the environment's own actions, for export; in float32, so that any machine runs it."""

    def __init__(self, policy: MlpPolicy, native_actions: torch.nn.Module) -> None:
        super().__init__()
        self.obs_normalizer, self.distribution = policy.obs_normalizer, policy.distribution
        self.actor = copy.deepcopy(policy.actor)
        self.actor.precision = torch.float32
        self.native_actions = native_actions

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Return the likeliest action. Shape: (B, obs_dim) -> (B, *shape of an action)."""
        return self.native_actions(self.distribution.mode(self.actor(self.obs_normalizer(obs))))


def export_policy(
    module: torch.nn.Module, example_obs: torch.Tensor, out_dir: Path, *, metadata: dict
) -> Path:
    """Write `policy.pt2` and `policy.json`, and check that the file acts as the module does.

    The module is copied to the CPU first, so that a policy trained on a GPU loads anywhere.

    Args:
        module: Deterministic policy, observation normaliser included; (batch, obs_dim) -> (batch, ...).
        example_obs: Any valid observations, float32. Shape: (batch, obs_dim).
        out_dir: Folder to write; created if missing.
        metadata: What a user of the file must know: task, robot, layout of observation and action,
            `control_hz`, token spec, versions. JSON values only.

    Returns:
        `out_dir`.

    Raises:
        ValueError: If the exported program and the module differ by more than 1e-5 on some batch.
    """
    eager = copy.deepcopy(module).cpu().eval()
    observations = example_obs.detach().to("cpu", torch.float32)
    # torch.export takes a size of 1 for a constant, so trace with two rows whatever the example has.
    rows = observations[:1].repeat(2, 1)
    with torch.no_grad():
        actions = eager(rows)
        program = torch.export.export(eager, (rows,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    out_dir.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, out_dir / PROGRAM)
    difference = _largest_difference(eager, load_exported(out_dir), observations)
    if not difference <= PARITY_TOLERANCE:
        raise ValueError(
            f"exported policy differs from the trained one by {difference:.3g} (limit {PARITY_TOLERANCE:g}):"
            " its forward has to be deterministic and free of state"
        )
    description = {
        **metadata,
        "input": {"shape": [-1, rows.shape[1]], "dtype": "float32"},
        "output": {"shape": [-1, *actions.shape[1:]], "dtype": str(actions.dtype).removeprefix("torch.")},
        "versions": {"torch": torch.__version__, **metadata.get("versions", {})},
        "parity_max_abs_difference": difference,
    }
    (out_dir / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return out_dir


def load_exported(path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    """Load an exported policy.

    Args:
        path: Folder written by `export_policy`, or its `policy.pt2`.

    Returns:
        Function from observations (batch, obs_dim) float32 to actions (batch, ...), on the CPU.
    """
    program = torch.export.load(path / PROGRAM if path.is_dir() else path).module()

    def act(observations: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return program(observations)

    return act


def describe_exported(path: Path) -> dict[str, Any]:
    """Return the `policy.json` beside an exported policy."""
    return json.loads(((path if path.is_dir() else path.parent) / DESCRIPTION).read_text(encoding="utf-8"))


def _largest_difference(
    eager: torch.nn.Module, exported: Callable[[torch.Tensor], torch.Tensor], observations: torch.Tensor
) -> float:
    """Return the largest difference on random batches of about the example's scale; NaN if there is one."""
    generator = torch.Generator().manual_seed(0)
    centre, spread = observations[:1], observations.abs().max() + 1.0
    differences = []
    for batch in PARITY_BATCHES:
        noise = torch.randn(batch, observations.shape[1], generator=generator)
        sample = centre + spread * noise
        with torch.no_grad():
            differences.append((exported(sample) - eager(sample)).abs().max().float())
    return float(torch.stack(differences).max())
