"""Grid and random search: configurations that are known from the start, each trained to the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from factory.floor.sweeps.trials import Start, Trial, TrialAction


@dataclass(frozen=True, kw_only=True)
class ListedSearch:
    """Trains every configuration of a list."""

    candidates: Sequence[tuple[str, ...]]
    """Overrides of the trials, by their number."""
    rungs: tuple[int, ...]

    def propose(self, trials: Sequence[Trial]) -> list[TrialAction]:
        """Start what has not been started, see `Sweep.propose`."""
        known = {trial.id for trial in trials}
        return [
            Start(trial=number, overrides=overrides, stop_at_steps=self.rungs[0])
            for number, overrides in enumerate(self.candidates)
            if number not in known
        ]
