"""Finds the question that a sentence asks, by shared words; a fixed set of questions needs no model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import fsum, log
from typing import Protocol

from factory.floor.questions.question import Parameters, Question, changed

_WORD = re.compile(r"[a-z0-9]+")
_STOP_WORDS = """
a an and any are at be been by can did does each for from had has have how i in is it last me much many my of
on or over please show since tell than that the there they this to today us was we were what when where which
why will with you
"""
_NO_MATTER = frozenset(_WORD.findall(_STOP_WORDS))
_ENDINGS = ("ings", "ing", "ions", "ion", "ies", "ed", "es", "s", "e")
_SHORTEST_STEM = 3
_LIKENESS = 0.8
"""Similarity to a known word above which a word counts as a misspelling of it."""
_LEAST_SHARE = 0.34
"""Weight of the matching words, relative to all words of the sentence, below which no question fits."""
_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(h|hours?|d|days?|m|min|minutes?)\b")
_LINE = re.compile(r"\blines?\s+(?:#|number\s+)?([0-9]+)\b")
_HOURS = {"h": 1.0, "d": 24.0, "m": 1.0 / 60.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A question with its parameters."""

    question: Question
    parameters: Parameters
    by: str = "near words"
    """Chooser of the question."""
    note: str = ""
    """Remark about the choice, such as why another chooser was not used."""


class Chooser(Protocol):
    """Picks a question and its parameters for a sentence."""

    def choose(self, text: str) -> Choice:
        """Return the question that a sentence means.

        Raises:
            ValueError: none fits; the message names near ones.
        """


class NearWords:
    """Picks the question that shares most with a sentence, rare words before common ones."""

    def __init__(self, questions: Mapping[str, Question]) -> None:
        """Weigh the words of the questions."""
        self._questions = questions
        self._words = {
            name: stems(f"{name.replace('_', ' ')} {question.text} {question.words}")
            for name, question in questions.items()
        }
        self._vocabulary = sorted(set().union(*self._words.values()))

    def choose(self, text: str) -> Choice:
        """Return the question whose words weigh most among those of the sentence."""
        # The name of a question needs no matching.
        name = text.strip().lower().replace(" ", "_").replace("-", "_")
        if name in self._questions:
            return Choice(question=self._questions[name], parameters=Parameters())
        asked = {self._known(stem) for stem in stems(text)}
        weights = {name: self._weight(asked & words) for name, words in self._words.items()}
        ranked = sorted(weights, key=lambda name: -weights[name])
        whole = self._weight(asked)
        best = weights[ranked[0]]
        # Too little in common, or a tie: naming some questions is better than answering a wrong one.
        if whole == 0.0 or best < _LEAST_SHARE * whole or best == weights[ranked[1]]:
            near = [name for name in ranked[:3] if weights[name] > 0.0] or sorted(self._questions)[:3]
            raise ValueError(
                f"ask={text.strip()[:80]}: no question fits; the nearest are {', '.join(near)};"
                " `ask` without words lists all"
            )
        question = self._questions[ranked[0]]
        given = named(text)
        unused = [f"{key}={value:g}" for key, value in given.items() if key not in question.parameters]
        note = ""
        if unused:
            note = (
                f"{question.name} takes {', '.join(question.parameters)} only; {' '.join(unused)} is left out"
            )
        return Choice(question=question, parameters=changed(Parameters(), given), note=note)

    def _known(self, stem: str) -> str:
        """Return a word of the questions that is nearly this one; the same one if there is none."""
        if stem in self._vocabulary:
            return stem
        return next(iter(get_close_matches(stem, self._vocabulary, n=1, cutoff=_LIKENESS)), stem)

    def _weight(self, words: set[str]) -> float:
        """Return the weight of words: a word that few questions have weighs more."""
        number = len(self._words)
        weights: list[float] = []
        for word in words:
            having = sum(word in own for own in self._words.values())
            # A word that no question has counts against all of them, though not much.
            weight = 1.0
            if having:
                weight = log(1.0 + number / having)
            weights.append(weight)
        return fsum(weights)


def stems(text: str) -> set[str]:
    """Return the words of a text without their endings, except those that carry no meaning of their own."""
    found: set[str] = set()
    # `pre-empted` and `preempted` are one word.
    for word in _WORD.findall(text.lower().replace("pre-", "pre")):
        if word in _NO_MATTER or word.isdigit():
            continue
        for ending in _ENDINGS:
            if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
                word = word.removesuffix(ending)
                break
        found.add(word)
    return found


def named(text: str) -> dict[str, float]:
    """Return the parameters that a sentence names, such as `line 3` and `last 2 hours`."""
    found: dict[str, float] = {}
    if times := _TIME.search(text.lower()):
        found["hours"] = float(times[1]) * _HOURS[times[2][0]]
    if line := _LINE.search(text.lower()):
        found["line"] = float(line[1])
    return found
