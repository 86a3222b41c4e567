"""Health of a training: what was left out of learning, what was undone, and when that is too much."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

MAX_ROLLBACKS_IN_A_ROW = 5
RECENT_ITERATIONS = 10
MAX_RECENT_SHARE = 0.5
"""Share of the samples or gradient steps of the last `RECENT_ITERATIONS` that may be left out."""


class UnhealthyTrainingError(Exception):
    """Learning does not go on: too much was left out, or too many updates were undone.

    The message is one line for the user.
    """


@dataclass(frozen=True, kw_only=True)
class Health:
    """Counts over a run; the loop returns new ones for every iteration."""

    bad_samples: int = 0
    """Samples with values that were not finite or absurdly large; they were not learned from."""
    skipped_steps: int = 0
    """Gradient steps left out because the gradient was not finite."""
    rollbacks: int = 0
    """Updates undone because policy or learner were no longer finite."""
    rollbacks_in_a_row: int = 0
    recent_sample_shares: tuple[float, ...] = ()
    """Share of bad samples in each of the last iterations, the newest last."""
    recent_step_shares: tuple[float, ...] = ()
    """Share of skipped gradient steps in each of the last iterations, the newest last."""

    def advance(
        self, sums: Mapping[str, float], learned: Mapping[str, float], *, steps: int, is_finite: bool
    ) -> Health:
        """Return the health after an iteration.

        Args:
            sums: episode sums of its rollout.
            learned: results of its update.
            steps: environment steps of its rollout.
            is_finite: whether policy and learner were finite after it.
        """
        bad_samples = sums["nonfinite"] + learned.get("discarded", 0.0)
        skipped_steps = learned.get("skipped", 0.0)
        step_share = skipped_steps / max(learned.get("gradient_steps", 0.0), 1.0)
        return replace(
            self,
            bad_samples=self.bad_samples + int(bad_samples),
            skipped_steps=self.skipped_steps + int(skipped_steps),
            rollbacks=self.rollbacks + int(not is_finite),
            rollbacks_in_a_row=0 if is_finite else self.rollbacks_in_a_row + 1,
            recent_sample_shares=_newest(self.recent_sample_shares, bad_samples / steps),
            recent_step_shares=_newest(self.recent_step_shares, step_share),
        )

    def problem(self, *, at_end: bool = False) -> str:
        """Return why the training must not go on, as a part of a sentence; empty while it may.

        Args:
            at_end: whether there is no later iteration, so that fewer than `RECENT_ITERATIONS` are enough.
        """
        if self.rollbacks_in_a_row >= MAX_ROLLBACKS_IN_A_ROW:
            return f"{self.rollbacks_in_a_row} updates in a row ended in values that are not finite"
        shares = {"gradient steps were skipped": self.recent_step_shares}
        shares["samples were not finite or absurdly large"] = self.recent_sample_shares
        for what, recent in shares.items():
            # The first iterations of a training may well be bad without being hopeless.
            is_known = len(recent) == RECENT_ITERATIONS or (at_end and recent)
            share = sum(recent) / max(len(recent), 1)
            if is_known and share > MAX_RECENT_SHARE:
                return f"{100 * share:.0f} % of the {what} in the last {len(recent)} iterations"
        return ""

    @property
    def num_events(self) -> int:
        """Everything that was left out or undone, counted together."""
        return self.bad_samples + self.skipped_steps + self.rollbacks

    @property
    def text(self) -> str:
        """One line for the user, with the counts that are not zero."""
        counts = {
            "samples left out (not finite or absurdly large)": self.bad_samples,
            "gradient steps left out (not finite)": self.skipped_steps,
            "updates undone (weights were not finite)": self.rollbacks,
        }
        return "health: " + ", ".join(f"{count} {what}" for what, count in counts.items() if count)

    def forgiven(self) -> Health:
        """Return the totals without what happened lately, for a resume after the cause was removed."""
        return replace(self, rollbacks_in_a_row=0, recent_sample_shares=(), recent_step_shares=())

    def metrics(self) -> dict[str, float]:
        """Return the `health/` metrics."""
        return {
            "health/bad_samples": float(self.bad_samples),
            "health/skipped_steps": float(self.skipped_steps),
            "health/rollbacks": float(self.rollbacks),
        }

    def to_plain(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return dataclasses.asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Health:
        """Return the health that `to_plain` described; JSON has lists for tuples."""
        return cls(
            bad_samples=plain["bad_samples"],
            skipped_steps=plain["skipped_steps"],
            rollbacks=plain["rollbacks"],
            rollbacks_in_a_row=plain["rollbacks_in_a_row"],
            recent_sample_shares=tuple(plain["recent_sample_shares"]),
            recent_step_shares=tuple(plain["recent_step_shares"]),
        )


def _newest(recent: tuple[float, ...], share: float) -> tuple[float, ...]:
    return (*recent, share)[-RECENT_ITERATIONS:]
