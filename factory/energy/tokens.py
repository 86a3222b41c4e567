"""Control tokens, the factory's unit of output, and their counter.

A control token is one action vector that the policy produced and that was executed for one control step in
one live world. Physics substeps, network passes, sequence positions and action symbols are no tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True, kw_only=True)
class TokenSpec:
    """Definition of a policy's token; metrics per token are comparable only where it is equal."""

    version: int = 1
    """Version of the counting rules."""
    kind: str
    """Kind of action, such as `vector` (one network pass) or `categorical` (one of `act_dim` choices)."""
    control_hz: float
    """Control steps per second of simulated time [Hz]."""
    obs_dim: int
    act_dim: int
    chunk: int = 1
    """Actions produced by one inference; each counts only if it is executed."""
    symbols_per_step: int = 1
    """Discrete symbols decoded for one action; 1 for a continuous action, by declaration."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        for key in ("version", "control_hz", "obs_dim", "act_dim", "chunk", "symbols_per_step"):
            value = getattr(self, key)
            if not value > 0:
                raise ValueError(f"token_spec.{key}={value}: must be > 0")

    @property
    def hash(self) -> str:
        """Return 12 hex digits of the SHA-256 of the canonical JSON."""
        # Sorted keys and no spaces: the digest must not depend on the order of the fields.
        # 50 and 50.0 are the same rate.
        values = asdict(self) | {"control_hz": float(self.control_hz)}
        canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def check_comparable(runs: Mapping[str, str], *, what: str = "token_spec.hash", force: bool = False) -> None:
    """Refuse to compare runs whose metrics per token have different meanings.

    Args:
        runs: Name of each run and its `TokenSpec.hash`, or another tag such as its energy boundary.
        what: Name of that tag, for the message.
        force: Compare them anyway.

    Raises:
        ValueError: If the values differ and `force` is not set.
    """
    # One value for all means that the runs compare; the value itself does not matter.
    if force or len(set(runs.values())) <= 1:
        return
    listed = ", ".join(f"{name}={value}" for name, value in runs.items())
    raise ValueError(
        f"{what} differs ({listed}): these runs do not compare; add force=true to compare anyway"
    )


@dataclass(kw_only=True)
class TokenCounter:
    """Counter of tokens, and of samples and evaluation steps that must not be mixed with them.

    Only `add` contributes to the denominator of joules per token. The caller leaves out worlds that were
    reset instead of stepped (next-step autoreset), padded, finished or quarantined.
    """

    total: int = 0
    """Fresh training tokens: actions executed in live worlds."""
    good: int = 0
    """Training tokens that passed the quality gate."""
    evaluation: int = 0
    """Tokens of evaluation."""
    processed: int = 0
    """Samples that gradients were computed from: minibatch samples times epochs."""
    gated: int = 0
    """Tokens up to the last quality gate."""

    def add(self, live_world_steps: int) -> None:
        """Count executed actions: control steps, summed over live worlds."""
        self.total += _count("live_world_steps", live_world_steps)

    def add_evaluation(self, live_world_steps: int) -> None:
        """Count actions executed for evaluation."""
        self.evaluation += _count("live_world_steps", live_world_steps)

    def add_processed(self, samples: int) -> None:
        """Count samples that gradients were computed from, once per epoch."""
        self.processed += _count("samples", samples)

    def gate(self, lower_bound: float, *, threshold: float) -> bool:
        """Judge the tokens since the last gate by an evaluation.

        Args:
            lower_bound: Lower confidence bound of the return or success rate of this checkpoint. NaN, an
                unknown bound, never passes.
            threshold: Value that it has to reach.

        Returns:
            True if the tokens were good.
        """
        # A comparison with NaN is false, so an unknown bound does not pass.
        is_good = lower_bound >= threshold
        if is_good:
            self.good += self.total - self.gated
        # Good or not, these tokens have been judged and never count again.
        self.gated = self.total
        return is_good

    def state_dict(self) -> dict[str, int]:
        """Return the counts, ready for JSON."""
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue from the counts of an earlier part of the run.

        Raises:
            ValueError: If counts are missing or unknown.
        """
        expected = {entry.name for entry in fields(self)}
        if state.keys() != expected:
            raise ValueError(f"token state has {sorted(state)}: expected {sorted(expected)}")
        for key, value in state.items():
            setattr(self, key, _count(key, value))


def _count(name: str, value: int) -> int:
    # int() of a device tensor would silently stall the device; a bool is a mask passed by mistake.
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name}={value!r}: must be a count, a plain int >= 0")
    return value
