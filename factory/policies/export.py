"""Export of trained policies as one file that needs only torch."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from factory.policies.base import Policy

PROGRAM = "policy.pt2"
DESCRIPTION = "policy.json"
PARITY_BATCHES = (1, 2, 7)
"""Batch sizes that are compared: one and two are special cases of tracing, seven is any other."""
PARITY_TOLERANCE = 1e-5
"""Largest difference of an action; float32 sums in another order differ by about 1e-6."""


class Deterministic(torch.nn.Module):
    """A policy for export: from observations to the actions an environment executes."""

    def __init__(self, policy: Policy, native_actions: torch.nn.Module) -> None:
        """Copy the policy.

        Args:
            policy: the trained policy.
            native_actions: maps its actions to those of the environment, within their bounds.
        """
        super().__init__()
        self.policy = policy.for_export()
        self.native_actions = native_actions

    def forward(self, obs: Tensor, *state: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return the deterministic action; for a policy with memory, also its next state.

        Shapes: (B, obs_dim), and (B, state_size) for a policy with memory -> (B, *shape of an action).
        """
        # The signature of the file depends on the policy: users of one without memory pass no state.
        if not state:
            memoryless = obs.new_zeros(obs.shape[0], 0)
            action, _ = self.policy.act_deterministic({"policy": obs}, memoryless)
            return self.native_actions(action)
        action, next_state = self.policy.act_deterministic({"policy": obs}, state[0])
        return self.native_actions(action), next_state


def export_policy(
    module: torch.nn.Module,
    example_obs: Tensor,
    out_dir: Path,
    *,
    metadata: dict[str, Any],
    initial_state: Tensor | None = None,
) -> Path:
    """Write `policy.pt2` and `policy.json`, and check that the file acts as the module does.

    The module is copied to the CPU first, so that a policy trained on a GPU loads anywhere.

    Args:
        module: the deterministic policy, (batch, obs_dim) -> (batch, ...), such as `Deterministic`.
        example_obs: any valid observations, float32. Shape: (batch, obs_dim).
        out_dir: folder to write; created if missing.
        metadata: facts for users of the file: task, robot, layout of observation and action, `control_hz`,
            token spec, versions. JSON values only.
        initial_state: state of a policy with memory at the start of an episode; it becomes the second input,
            and the next state the second output. Shape: (1, state_size).

    Returns:
        `out_dir`.

    Raises:
        ValueError: the policy is not finite, or the exported program and the module differ by more than 1e-5
            on some batch.
    """
    _check_finite(module)
    # A copy: `cpu()` would move the caller's own module, whose optimizer holds views of its tensors.
    eager = copy.deepcopy(module).cpu().eval()
    observations = example_obs.detach().to("cpu", torch.float32)
    # torch.export takes a size of 1 for a constant, so trace with two rows whatever the example has.
    rows = observations[:1].repeat(2, 1)
    memory: tuple[Tensor, ...] = ()
    if initial_state is not None:
        memory = (initial_state.detach().cpu(),)
    program, outputs = _trace(eager, rows, memory)
    out_dir.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, out_dir / PROGRAM)

    # Compare the file itself, as a user would load it. Written as `not <=`, so that NaN fails too.
    difference = _largest_difference(eager, load_exported(out_dir), observations, memory)
    if not difference <= PARITY_TOLERANCE:
        raise ValueError(
            f"exported policy differs from the trained one by {difference:.3g} (limit {PARITY_TOLERANCE:g}):"
            " its forward must be deterministic and must not keep state"
        )
    action, *_ = _as_tuple(outputs)
    description = {
        **metadata,
        "input": _describe(rows),
        "output": _describe(action),
        "versions": {"torch": torch.__version__, **metadata.get("versions", {})},
        "parity_max_abs_difference": difference,
    }
    for state in memory:
        description["state"] = _describe(state) | {"initial": state[0].tolist()}
    (out_dir / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return out_dir


def _trace(
    eager: torch.nn.Module, rows: Tensor, memory: tuple[Tensor, ...]
) -> tuple[torch.export.ExportedProgram, Any]:
    """Return the program of a module for batches of any size, and the outputs for two rows."""
    batch = torch.export.Dim("batch")
    dynamic: tuple[Any, ...] = ({0: batch},)
    if memory:
        # `forward` takes the state as a variadic argument, hence a tuple of its own.
        dynamic = ({0: batch}, ({0: batch},))
    inputs = (rows, *(state.repeat(2, 1) for state in memory))
    with torch.no_grad():
        # The outputs of the module itself, to describe their shapes.
        outputs = eager(*inputs)
        return torch.export.export(eager, inputs, dynamic_shapes=dynamic), outputs


def _check_finite(module: torch.nn.Module) -> None:
    """Raise ValueError if weights or statistics are not finite; bounds of actions may be infinite."""
    for name, value in module.state_dict().items():
        if not name.startswith("native_actions.") and not value.isfinite().all():
            raise ValueError(f"policy not exported: {name} is not finite; export an earlier checkpoint")


def _describe(rows: Tensor) -> dict[str, Any]:
    """Return shape and type of a batch of rows, for `policy.json`."""
    return {"shape": [-1, *rows.shape[1:]], "dtype": str(rows.dtype).removeprefix("torch.")}


def load_exported(path: Path) -> Callable[..., Any]:
    """Load an exported policy.

    Args:
        path: folder written by `export_policy`, or its `policy.pt2`.

    Returns:
        Function from observations (batch, obs_dim) float32 to actions (batch, ...), on the CPU. For a policy
        with memory, it also takes the state (batch, state_size) and returns actions and next state.
    """
    if path.is_dir():
        path = path / PROGRAM
    program = torch.export.load(path).module()

    def act(*inputs: Tensor) -> Any:
        with torch.no_grad():
            return program(*inputs)

    return act


def describe_exported(path: Path) -> dict[str, Any]:
    """Return the `policy.json` beside an exported policy."""
    folder = path
    if not path.is_dir():
        folder = path.parent
    return json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))


def _largest_difference(
    eager: torch.nn.Module,
    exported: Callable[..., Any],
    observations: Tensor,
    memory: tuple[Tensor, ...],
) -> float:
    """Return the largest difference on random batches of about the example's scale; NaN if any is NaN."""
    # A generator of its own: the check must not disturb the run's random numbers.
    generator = torch.Generator().manual_seed(0)
    centre = observations[:1]
    spread = observations.abs().max() + 1.0
    differences = []
    for batch in PARITY_BATCHES:
        noise = torch.randn(batch, observations.shape[1], generator=generator)
        inputs = [centre + spread * noise, *(state.repeat(batch, 1) for state in memory)]
        with torch.no_grad():
            found = _as_tuple(exported(*inputs))
            expected = _as_tuple(eager(*inputs))
        differences += [(a - b).abs().max().float() for a, b in zip(found, expected, strict=True)]
    return float(torch.stack(differences).max())


def _as_tuple(outputs: Any) -> tuple[Tensor, ...]:
    if isinstance(outputs, tuple):
        return outputs
    return (outputs,)
