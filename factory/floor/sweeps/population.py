"""Population-based training, PBT (Jaderberg et al. 2017, arXiv:1711.09846).

When all members have reached a rung, each of the worst is replaced by a new trial that starts from the
checkpoint of one of the best (exploit) with settings near those of that trial (explore). The others train on.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from factory.floor.sweeps.ranking import ranked
from factory.floor.sweeps.space import SearchSpace
from factory.floor.sweeps.trials import Exploit, Promote, Start, Stop, Trial, TrialAction, TrialState


@dataclass(frozen=True, kw_only=True)
class PopulationTraining:
    """Trains a population whose worst members copy the best at every rung."""

    space: SearchSpace
    candidates: Sequence[tuple[str, ...]]
    """Overrides of the first members, by their number."""
    rungs: tuple[int, ...]
    sign: int
    """1 if more of the metric is better, -1 if less is."""
    seed: int
    exploit_share: float = 0.25
    """Share of the population that is replaced, and that is copied, at a rung; at least one member."""

    def propose(self, trials: Sequence[Trial]) -> list[TrialAction]:
        """Start, promote and exploit trials, see `Sweep.propose`."""
        known = {trial.id: trial for trial in trials}
        members = list(range(len(self.candidates)))
        actions: list[TrialAction] = [
            Start(trial=number, overrides=self.candidates[number], stop_at_steps=self.rungs[0])
            for number in members
            if number not in known
        ]
        # Numbers of later trials follow from the decisions before them, so they are the same every time.
        next_number = len(members)
        for rung in range(len(self.rungs) - 1):
            if not all(number in known and known[number].has_reached(rung) for number in members):
                break
            pairs = self._exploits([known[number] for number in members], rung)
            new_members: list[int] = []
            for number in members:
                if number not in pairs:
                    actions += self._go_on(known[number], rung)
                    new_members.append(number)
                    continue
                source = known[pairs[number]]
                actions += self._replace(known, number, source, rung, next_number)
                new_members.append(next_number)
                next_number += 1
            members = new_members
        # Copies come first: a member that goes on writes newer checkpoints.
        return sorted(actions, key=lambda action: isinstance(action, Promote))

    def _exploits(self, members: Sequence[Trial], rung: int) -> dict[int, int]:
        """Return the members that are replaced, each with the one that is copied."""
        order = ranked(members, rung=rung, sign=self.sign)
        count = max(1, int(self.exploit_share * len(members)))
        best = order[:count]
        # One that failed has no metric and is replaced in any case.
        failed = [trial.id for trial in members if trial not in order]
        worst = [trial.id for trial in order[len(best) :][::-1]]
        replaced = [*failed, *worst[: max(0, count - len(failed))]]
        if not best:
            return {}
        pairs: dict[int, int] = {}
        for number in replaced:
            # Each decision has a generator of its own, so a floor that starts again decides the same.
            rng = random.Random(f"{self.seed}/{rung}/{number}/source")
            pairs[number] = rng.choice(best).id
        return pairs

    def _go_on(self, trial: Trial, rung: int) -> list[TrialAction]:
        if trial.state != TrialState.PAUSED or trial.next_rung != rung + 1:
            return []
        return [Promote(trial=trial.id, stop_at_steps=self._own_steps(trial.first_rung, rung + 1))]

    def _replace(
        self, known: Mapping[int, Trial], number: int, source: Trial, rung: int, new_number: int
    ) -> list[TrialAction]:
        actions: list[TrialAction] = []
        if new_number not in known:
            rng = random.Random(f"{self.seed}/{rung}/{number}/explore")
            exploit = Exploit(
                source=source.id,
                trial=new_number,
                overrides=self.space.perturb(source.overrides, rng),
                first_rung=rung + 1,
                stop_at_steps=self._own_steps(rung + 1, rung + 1),
            )
            actions.append(exploit)
        if known[number].state == TrialState.PAUSED and known[number].next_rung == rung + 1:
            reason = f"replaced by a copy of trial {source.id} at {self.rungs[rung]} steps"
            actions.append(Stop(trial=number, reason=reason))
        return actions

    def _own_steps(self, first_rung: int, rung: int) -> int:
        """Return the steps to a rung in the training of a trial, which a copy begins at 0."""
        if first_rung == 0:
            return self.rungs[rung]
        return self.rungs[rung] - self.rungs[first_rung - 1]
