"""Asynchronous successive halving, ASHA (Li et al. 2018, arXiv:1810.05934), independent of timing.

At every rung 1/eta of the trials go on. As in ASHA, a place is given away before all trials are there: the
place number j of a rung goes to the best of the first j * eta trials that has none yet, the last place to the
best of all. "First" is the order in which trials got their place at the rung before, not the order in which
they arrive. So machines, pauses and restarts change no decision, and the best at a rung always goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from factory.floor.sweeps.ranking import ranked
from factory.floor.sweeps.trials import Promote, Start, Stop, Trial, TrialAction, TrialState


@dataclass(frozen=True, kw_only=True)
class SuccessiveHalving:
    """Trains the best 1/eta of the trials at every rung on to the next one."""

    candidates: Sequence[tuple[str, ...]]
    """Overrides of the trials, by their number."""
    rungs: tuple[int, ...]
    eta: int
    sign: int
    """1 if more of the metric is better, -1 if less is."""

    def propose(self, trials: Sequence[Trial]) -> list[TrialAction]:
        """Start, promote and stop trials, see `Sweep.propose`."""
        known = {trial.id: trial for trial in trials}
        actions: list[TrialAction] = [
            Start(trial=number, overrides=overrides, stop_at_steps=self.rungs[0])
            for number, overrides in enumerate(self.candidates)
            if number not in known
        ]
        entrants = list(range(len(self.candidates)))
        size = len(entrants)
        are_all_there = True
        for rung in range(len(self.rungs) - 1):
            size = places(size, self.eta)
            winners, is_decided = self._winners(known, entrants, rung, size, are_all_there=are_all_there)
            for number in entrants:
                trial = known.get(number)
                if trial is None or trial.state != TrialState.PAUSED or trial.next_rung != rung + 1:
                    continue
                if number in winners:
                    actions.append(Promote(trial=number, stop_at_steps=self.rungs[rung + 1]))
                elif is_decided:
                    reason = f"not among the best {size} of {len(entrants)} at {self.rungs[rung]} steps"
                    actions.append(Stop(trial=number, reason=reason))
            entrants = winners
            are_all_there = is_decided
        return actions

    def _winners(
        self,
        known: Mapping[int, Trial],
        entrants: Sequence[int],
        rung: int,
        num_places: int,
        *,
        are_all_there: bool,
    ) -> tuple[list[int], bool]:
        """Return the trials that got a place at the next rung, in order, and whether all places are decided.

        Args:
            known: records by number.
            entrants: trials at this rung, in the order of their places.
            rung: index of the rung.
            num_places: places at the next rung.
            are_all_there: whether no further entrants will follow.
        """
        winners: list[int] = []
        for place in range(1, num_places + 1):
            needed = place * self.eta
            if (place == num_places or len(entrants) < needed) and not are_all_there:
                return winners, False
            if place == num_places:
                needed = len(entrants)
            pool = [known[number] for number in entrants[:needed] if number in known]
            if len(pool) < len(entrants[:needed]) or not all(trial.has_reached(rung) for trial in pool):
                return winners, False
            rest = [trial.id for trial in ranked(pool, rung=rung, sign=self.sign) if trial.id not in winners]
            # Where too many trials failed, a place stays empty.
            winners += rest[:1]
        return winners, True


def places(entrants: int, eta: int) -> int:
    """Return how many of the trials at a rung go on to the next one."""
    return max(1, entrants // eta)


def default_rungs(total_steps: int, *, num_trials: int, eta: int) -> tuple[int, ...]:
    """Return rungs a factor of eta apart, as many as leave a single trial for the last one."""
    num_rungs = 1
    while num_trials >= eta**num_rungs:
        num_rungs += 1
    steps = [total_steps // eta**power for power in reversed(range(num_rungs))]
    return tuple(dict.fromkeys(step for step in steps if step > 0))
