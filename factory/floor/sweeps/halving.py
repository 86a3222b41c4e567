"""Asynchronous successive halving, ASHA (Li et al. 2018, arXiv:1810.05934), independent of timing.

As in ASHA, trials are promoted before all have arrived: of the first eta, 2 eta, 3 eta, ... trials at a
rung, and finally of all, the best 1/eta are promoted, unless they are already. "First" is the order in which
trials were promoted at the rung before, not the order in which they arrive. So machines, pauses and restarts
change no decision, and the best at a rung is always promoted.
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
        # Rung by rung: the winners of one are the entrants of the next, in the order of their promotions.
        entrants = list(range(len(self.candidates)))
        are_all_there = True
        for rung in range(len(self.rungs) - 1):
            winners, are_all_there = self._winners(known, entrants, rung, are_all_there=are_all_there)
            for number in entrants:
                trial = known.get(number)
                if trial is None or trial.state != TrialState.PAUSED or trial.next_rung != rung + 1:
                    continue
                if number in winners:
                    actions.append(Promote(trial=number, stop_at_steps=self.rungs[rung + 1]))
                elif are_all_there:
                    reason = (
                        f"not among the best {len(winners)} of {len(entrants)} at {self.rungs[rung]} steps"
                    )
                    actions.append(Stop(trial=number, reason=reason))
            entrants = winners
        return actions

    def _winners(
        self, known: Mapping[int, Trial], entrants: Sequence[int], rung: int, *, are_all_there: bool
    ) -> tuple[list[int], bool]:
        """Return the trials that are promoted at a rung, in order, and whether no more will be.

        Args:
            known: records by number.
            entrants: trials at this rung, in the order of their promotions.
            rung: index of the rung.
            are_all_there: whether no further entrants will follow.
        """
        # Look after eta, 2 eta, ... entrants, and once more when it is known that no more will come.
        looks = list(range(self.eta, len(entrants) + 1, self.eta))
        if are_all_there and len(entrants) not in looks:
            looks.append(len(entrants))
        winners: list[int] = []
        for number in looks:
            # A look waits for all of its entrants. Otherwise the fastest would win, not the best.
            pool = [known[entrant] for entrant in entrants[:number] if entrant in known]
            if len(pool) < number or not all(trial.has_reached(rung) for trial in pool):
                return winners, False
            # Who has won at an earlier look stays promoted, even if a later entrant is better.
            best = ranked(pool, rung=rung, sign=self.sign)[: max(1, number // self.eta)]
            winners += [trial.id for trial in best if trial.id not in winners]
        return winners, are_all_there


def default_rungs(total_steps: int, *, num_trials: int, eta: int) -> tuple[int, ...]:
    """Return rungs a factor of eta apart, as many as leave a single trial for the last one."""
    # n trials and eta make floor(log_eta n) + 1 rungs; counted up, since logarithms round.
    num_rungs = 1
    while num_trials >= eta**num_rungs:
        num_rungs += 1
    steps = [total_steps // eta**power for power in reversed(range(num_rungs))]
    return tuple(dict.fromkeys(step for step in steps if step > 0))
