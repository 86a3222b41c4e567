"""Control tokens: what the factory puts out, and how it is counted.

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
    """What one token is for a policy; figures per token compare only where this is equal."""

    version: int = 1
    """Version of the counting rules."""
    kind: str
    """How actions are made: `vector` (one network pass), `categorical` (the same, for one of `act_dim` choices), ..."""
    control_hz: float
    """Control steps a second of simulated time [Hz]."""
    obs_dim: int
    act_dim: int
    chunk: int = 1
    """Actions produced by one inference; each counts only if executed."""
    symbols_per_step: int = 1
    """Discrete symbols decoded for one action; 1 for a continuous action, by declaration."""

    def __post_init__(self) -> None:
        """Check the figures."""
        for key in ("version", "control_hz", "obs_dim", "act_dim", "chunk", "symbols_per_step"):
            if not getattr(self, key) > 0:
                raise ValueError(f"token_spec.{key}={getattr(self, key)}: must be > 0")

    @property
    def hash(self) -> str:
        """Return 12 hex digits of the SHA-256 of the canonical JSON."""
        values = asdict(self) | {"control_hz": float(self.control_hz)}
        canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def check_comparable(runs: Mapping[str, str], *, what: str = "token_spec.hash", force: bool = False) -> None:
    """Refuse to compare runs whose figures per token do not mean the same.

    Args:
        runs: Name of each run and its `TokenSpec.hash`; or its energy boundary.
        what: What the values are, for the message.
        force: Compare all the same.

    Raises:
        ValueError: If the values differ and `force` is not set.
    """
    if len(set(runs.values())) > 1 and not force:
        listed = ", ".join(f"{name}={value}" for name, value in runs.items())
        raise ValueError(
            f"{what} differs ({listed}): figures do not compare; add force=true to do so all the same"
        )


@dataclass(kw_only=True)
class TokenCounter:
    """Counts tokens, and apart from them what must not be mixed with them.

    Only `add` makes the denominator of joules per token. The caller leaves out worlds that were reset
    instead of stepped (next-step autoreset), padded, finished or quarantined.
    """

    total: int = 0
    """Fresh training tokens: actions executed in live worlds."""
    good: int = 0
    """Training tokens that passed the quality gate."""
    evaluation: int = 0
    """Tokens of evaluation."""
    warmup: int = 0
    """Actions executed to compile, warm up or fill a buffer at random."""
    processed: int = 0
    """Samples that gradients were computed from: minibatch samples times epochs."""
    seq_tokens_in: int = 0
    """Sequence positions encoded, unmasked, once each; for a vector policy one per token."""
    action_symbols_out: int = 0
    """Discrete symbols decoded; for a continuous policy one per token."""
    gated: int = 0
    """Tokens up to the last quality gate."""

    def add(self, live_world_steps: int, *, num_agents: int = 1) -> None:
        """Count executed actions.

        Args:
            live_world_steps: Control steps executed, summed over live worlds; of a chunk what was executed.
            num_agents: Agents with an action of their own in each world.
        """
        self.total += _count("live_world_steps", live_world_steps) * num_agents

    def add_evaluation(self, live_world_steps: int) -> None:
        """Count actions executed for evaluation."""
        self.evaluation += _count("live_world_steps", live_world_steps)

    def add_warmup(self, world_steps: int) -> None:
        """Count actions executed before training proper."""
        self.warmup += _count("world_steps", world_steps)

    def add_processed(self, samples: int, *, epochs: int = 1) -> None:
        """Count samples that gradients were computed from."""
        self.processed += _count("samples", samples) * epochs

    def add_sequence(self, *, tokens_in: int, symbols_out: int) -> None:
        """Count sequence positions encoded and symbols decoded."""
        self.seq_tokens_in += _count("tokens_in", tokens_in)
        self.action_symbols_out += _count("symbols_out", symbols_out)

    def gate(self, lower_bound: float, *, threshold: float) -> bool:
        """Judge the tokens since the last gate by an evaluation.

        Args:
            lower_bound: Lower confidence bound of the return or success rate of this checkpoint; NaN, which is not
                known, reaches nothing.
            threshold: What it has to reach.

        Returns:
            Whether the tokens were good.
        """
        is_good = lower_bound >= threshold
        if is_good:
            self.good += self.total - self.gated
        self.gated = self.total
        return is_good

    def state_dict(self) -> dict[str, int]:
        """Return the counts, ready for JSON."""
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Take over the counts of an earlier part of the run.

        Raises:
            ValueError: If counts are missing or unknown.
        """
        expected = {entry.name for entry in fields(self)}
        if state.keys() != expected:
            raise ValueError(f"token state has {sorted(state)}: expected {sorted(expected)}")
        for key, value in state.items():
            setattr(self, key, _count(key, value))


def _count(name: str, value: int) -> int:
    # int() of a device tensor would stall the device unseen; a bool is a mask passed by mistake.
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name}={value!r}: must be a count, a plain int >= 0")
    return value
