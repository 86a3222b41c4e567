"""The table of deciders. A new one is a class and a row here."""

from __future__ import annotations

from collections.abc import Callable

from factory.operator.config import OperatorConfig
from factory.operator.deciders.base import Decider, NoDecider
from factory.operator.deciders.rule import RuleDecider
from factory.operator.journal import Journal
from factory.operator.operator import NoRanker, Ranker

_DECIDERS: dict[str, Callable[[Journal], Decider]] = {
    "none": lambda journal: NoDecider(),
    "rule": lambda journal: RuleDecider(),
}


def make(config: OperatorConfig, journal: Journal) -> Decider:
    """Return the decider that the settings name."""
    return _DECIDERS[config.decider](journal)


def make_ranker(config: OperatorConfig, journal: Journal) -> Ranker:
    """Return the language model's side of the settings; nothing if there is no address."""
    return NoRanker()
