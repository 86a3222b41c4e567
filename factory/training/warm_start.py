"""Start a new run from the policy of another: its weights and normalisers, as far as they fit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from factory.config import TrainConfig
from factory.policies.base import Policy
from factory.training import checkpoint, fit

_MAX_NAMED = 8
"""Modules that the note names one by one."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The run that a new one starts from."""

    run_dir: Path
    env_steps: int
    """Environment steps of its checkpoint."""
    mlflow_run_id: str | None
    num_modules: int
    """Modules whose tensors were taken."""
    misfits: tuple[str, ...]
    """Modules that were not taken, each with the reason."""

    @property
    def note(self) -> str:
        """Line for the user."""
        text = f"starts from weights and normalisers of {self.run_dir} at {self.env_steps} environment steps"
        if self.misfits:
            named = ", ".join(self.misfits[:_MAX_NAMED])
            more = len(self.misfits) - _MAX_NAMED
            if more > 0:
                named += f" and {more} more"
            total = self.num_modules + len(self.misfits)
            text += f"; {len(self.misfits)} of {total} modules do not fit: {named}"
        return text

    @property
    def tags(self) -> dict[str, str]:
        """Tags of the new run for the experiment tracker."""
        return {
            "start_from": str(self.run_dir),
            "start_from.env_steps": str(self.env_steps),
            "start_from.mlflow_run_id": self.mlflow_run_id or "none",
        }


def load(cfg: TrainConfig, policy: Policy) -> Origin:
    """Put the tensors of the run that `cfg.start_from` names into a new policy.

    A module, such as a layer or a normaliser, is taken whole or not at all. Optimizer, generators,
    environments and counters stay those of a new run; the other run's configuration is not read.

    Args:
        cfg: the new job.
        policy: its policy, changed in place.

    Raises:
        ValueError: the run has no checkpoint that can be read, no weights in it fit, or they are not finite.
    """
    run_dir = Path(cfg.start_from)
    found = checkpoint.load(run_dir, key="start_from")
    own = policy.state_dict()
    given = found.tensors.get("policy", {})
    mine = _by_module(own)
    theirs = _by_module(given)
    num_taken = 0
    taken: dict[str, Tensor] = {}
    misfits: list[str] = []
    # Sorted, so that the note names the misfits in the same order every time.
    for name in sorted(mine.keys() | theirs.keys()):
        reason = _misfit(mine.get(name, {}), theirs.get(name, {}))
        if reason:
            misfits.append(f"{_printable(name)} ({reason})")
        else:
            taken.update(theirs[name])
            num_taken += 1
    try:
        # Statistics of returns fit any policy, and are of no use without weights.
        if not taken.keys() & dict(policy.named_parameters()).keys():
            raise ValueError(f"no weights of its policy fit: {', '.join(misfits[:_MAX_NAMED])}")
        fit.check_run_id(found.state.get("mlflow_run_id"))
        fit.load_part(policy, {**own, **taken}, name="policy")
    except ValueError as error:
        raise ValueError(
            f"start_from={run_dir}: checkpoint {found.env_steps} does not fit ({error})"
        ) from error
    return Origin(
        run_dir=run_dir,
        env_steps=found.env_steps,
        mlflow_run_id=found.state.get("mlflow_run_id"),
        num_modules=num_taken,
        misfits=tuple(misfits),
    )


def _by_module(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return tensors by the name of the module they belong to."""
    modules: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        # A parameter of the policy itself stands for itself.
        module = key.rpartition(".")[0] or key
        modules.setdefault(module, {})[key] = value
    return modules


def _printable(name: str) -> str:
    """Return a name from a file so that it cannot break a line or move a cursor."""
    if re.fullmatch(r"[\w.]{1,80}", name):
        return name
    return f"{name!a:.80}"


def _misfit(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> str:
    """Return the reason why the tensors of a module do not fit; empty if they do."""
    if not theirs:
        return "only in the new policy"
    if not mine:
        return "only in the other policy"
    if mine.keys() != theirs.keys():
        return "other parameters"
    # A file has its tensors in no fixed order.
    for key in mine:
        value = theirs[key]
        if value.shape != mine[key].shape:
            return f"{tuple(value.shape)} there, {tuple(mine[key].shape)} here"
        if value.dtype != mine[key].dtype:
            return f"{value.dtype} there, {mine[key].dtype} here"
    return ""
