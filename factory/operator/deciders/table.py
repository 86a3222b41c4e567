"""The table of deciders. A new one is a class and a row here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from factory.operator.config import OperatorConfig
from factory.operator.deciders.bandit import BanditRanker
from factory.operator.deciders.base import Decider, NoDecider, NoRanker, Ranker
from factory.operator.deciders.rule import RuleDecider
from factory.operator.journal import Journal


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """Parts of a decider: the maker of the first choice, and of the ranker that may replace it."""

    decider: Callable[[Journal], Decider] = lambda journal: RuleDecider()
    ranker: Callable[[OperatorConfig, Journal], Ranker] = lambda config, journal: NoRanker()


def _language_model(config: OperatorConfig, journal: Journal) -> Ranker:
    # Whoever asks no model need not load what speaks HTTP and TLS.
    from factory.operator.deciders.llm import LlmRanker

    return LlmRanker(config.llm, journal)


DECIDERS = {
    "none": _Row(decider=lambda journal: NoDecider()),
    "rule": _Row(),
    "bandit": _Row(ranker=lambda config, journal: BanditRanker(config.bandit, journal)),
    "llm": _Row(ranker=_language_model),
}


def make(config: OperatorConfig, journal: Journal) -> Decider:
    """Return the maker of first choices that the settings name."""
    return DECIDERS[config.decider].decider(journal)


def make_ranker(config: OperatorConfig, journal: Journal) -> Ranker:
    """Return what may replace the first choices; nothing for `none` and `rule`."""
    return DECIDERS[config.decider].ranker(config, journal)
