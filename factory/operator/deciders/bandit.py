"""A contextual bandit: for each class of faults it prefers the actions that have cured it on this floor.

Thompson sampling (Thompson 1933; Russo et al. 2018) with a Beta prior from the rule's order. The chance that
an action cures is drawn from its posterior,

    theta ~ Beta(n m_k + cured, n (1 - m_k) + failed),

with the prior's weight n and its mean m_k of the k-th action of the rule, and the greatest theta times worth
is taken. All that it has learned are the verified outcomes in the journal, and every draw is seeded by the
number of the decision, so one that was killed goes on exactly where it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from factory.operator.config import BanditConfig
from factory.operator.deciders.base import Advice
from factory.operator.deciders.rule import ORDER
from factory.operator.journal import Journal, Outcomes
from factory.operator.view import View
from factory.operator.words import Candidate, Decision, Fault, Finding, Verb

_FIRST = 0.8
"""Prior chance that the first action of the rule cures; the k-th has a k-th of it."""
_OTHER = 0.1
"""Prior chance that an action cures which the rule does not have for a fault."""
_STOPPED = 0.3
"""Worth of a cure for which a line had to stop: the fault is gone, and so is the work."""


class BanditRanker:
    """Replaces the rule's choice by what has helped better."""

    name = "bandit"

    def __init__(self, config: BanditConfig, journal: Journal) -> None:
        """Learn from the journal of a floor."""
        self._config = config
        self._journal = journal
        self._advice: dict[int, Advice] = {}

    def ask(self, decision: Decision, finding: Finding, choices: Sequence[Candidate], view: View) -> None:
        """Choose at once."""
        outcomes = self._journal.outcomes(finding.fault)
        # Nobody can verify that telling people has helped.
        arms = [one for one in choices if one.verb is not Verb.ALERT]
        # As long as nothing is known of a fault, the prior is the rule.
        if not outcomes or len(arms) < 2:
            return
        draws = self._draw(decision, finding.fault, arms, outcomes)
        # Ties go to the rule's choice.
        chosen = max(arms, key=lambda one: (draws[one.verb] * _worth(one), one == decision.candidate))
        numbers = {f"draw_{verb}": round(draw, 4) for verb, draw in draws.items()}
        if chosen == decision.candidate:
            self._advice[decision.id] = Advice(note="the same choice", numbers=numbers)
            return
        seen = outcomes.get(chosen.verb, (0, 0))
        note = f"instead of {decision.candidate.id}: it has cured {seen[0]} of {sum(seen)} times"
        self._advice[decision.id] = Advice(candidate=chosen, note=note, numbers=numbers)

    def answer(self, decision: Decision) -> Advice:
        """Return the choice."""
        return self._advice.pop(decision.id, Advice())

    def close(self) -> None:
        """Do nothing: the journal is the state."""

    def _draw(
        self, decision: Decision, fault: Fault, arms: Sequence[Candidate], outcomes: Outcomes
    ) -> Mapping[Verb, float]:
        """Return a chance of success for each verb, drawn from its posterior."""
        source = Random(f"{self._config.seed} {decision.id}")
        draws: dict[Verb, float] = {}
        for verb in sorted({one.verb for one in arms}):
            cured, failed = outcomes.get(verb, (0, 0))
            mean = prior_mean(fault, verb)
            # The prior counts as much as this number of outcomes.
            weight = self._config.prior
            draws[verb] = source.betavariate(weight * mean + cured, weight * (1.0 - mean) + failed)
        return draws


def prior_mean(fault: Fault, verb: Verb) -> float:
    """Return the chance that an action cures a fault, before anything was seen."""
    if verb not in ORDER[fault]:
        return _OTHER
    return _FIRST / (1.0 + ORDER[fault].index(verb))


def _worth(candidate: Candidate) -> float:
    if candidate.predicted_tokens_per_s < 0.0 or candidate.verb in (Verb.HOLD, Verb.CANCEL):
        return _STOPPED
    return 1.0
