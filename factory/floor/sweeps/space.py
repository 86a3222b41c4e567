"""Search spaces, written as on Hydra's command line: `choice(...)`, `range(...)`, `interval(...)`, `1,2,3`.

`tag(log, interval(1e-4, 1e-2))` is a logarithmic interval and `int(interval(8, 64))` one of integers.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override
from hydra.errors import HydraException

MAX_CANDIDATES = 10_000
"""Most configurations of a sweep."""
_PERTURBATIONS = (0.8, 1.25)
"""Factors of PBT's exploration (Jaderberg et al. 2017, arXiv:1711.09846, use 0.8 and 1.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of several values, as text of the command line."""

    key: str
    values: tuple[str, ...]

    def sample(self, rng: random.Random) -> str:
        """Return one of the values."""
        return rng.choice(self.values)

    def perturb(self, value: str, rng: random.Random) -> str:
        """Return a neighbour of a value, in the order in which the values are given."""
        index = self.values.index(value) + rng.choice((-1, 1))
        return self.values[min(max(index, 0), len(self.values) - 1)]

    def text(self, value: str) -> str:
        """Return a value as the command line takes it."""
        return value

    def parse(self, text: str) -> str:
        """Return the value of a text."""
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Numbers from `low` to `high`, both included."""

    key: str
    low: float
    high: float
    is_log: bool = False
    is_integer: bool = False

    def sample(self, rng: random.Random) -> str:
        """Return a number, uniform in its logarithm if `is_log`."""
        # exp(uniform(log low, log high)): each decade is as likely as the others.
        if self.is_log:
            return self.text(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return self.text(rng.uniform(self.low, self.high))

    def perturb(self, value: str, rng: random.Random) -> str:
        """Return a number somewhat smaller or greater, within the interval."""
        return self.text(float(value) * rng.choice(_PERTURBATIONS))

    def text(self, value: float) -> str:
        """Return a number as the command line takes it: six digits, and within the interval."""
        if self.is_integer:
            return str(round(min(max(value, self.low), self.high)))
        # Rounding must not lead out of the interval.
        rounded = min(max(float(f"{value:.6g}"), self.low), self.high)
        return repr(rounded)

    def parse(self, text: str) -> float:
        """Return the number of a text."""
        if self.is_integer:
            return int(text)
        return float(text)


Dimension = Choice | Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """Keys that vary, and the arguments that all trials have in common."""

    dimensions: tuple[Dimension, ...]
    fixed: tuple[str, ...]

    @property
    def is_finite(self) -> bool:
        """True if every key has a list of values."""
        return all(isinstance(dimension, Choice) for dimension in self.dimensions)

    def grid(self) -> list[tuple[str, ...]]:
        """Return all combinations, the last key varying fastest.

        Raises:
            ValueError: a key has an interval, or there are too many combinations.
        """
        columns: list[list[str]] = []
        for dimension in self.dimensions:
            if not isinstance(dimension, Choice):
                raise ValueError(
                    f"{dimension.key}: an interval has no grid; give choice(...), range(...), or trials=N"
                )
            columns.append([f"{dimension.key}={value}" for value in dimension.values])
        size = math.prod(map(len, columns))
        if size > MAX_CANDIDATES:
            raise ValueError(f"{size} combinations: at most {MAX_CANDIDATES}; give fewer values, or trials=N")
        return list(itertools.product(*columns))

    def sample(self, count: int, *, seed: int) -> list[tuple[str, ...]]:
        """Return configurations drawn at random: of a grid without repetition, else independent ones."""
        if self.is_finite:
            grid = self.grid()
            return random.Random(f"{seed}/grid").sample(grid, min(count, len(grid)))
        # Each trial has a generator of its own, so that more trials do not change the first ones.
        return [self.draw(random.Random(f"{seed}/{number}")) for number in range(count)]

    def draw(self, rng: random.Random) -> tuple[str, ...]:
        """Return one configuration."""
        return tuple(f"{dimension.key}={dimension.sample(rng)}" for dimension in self.dimensions)

    def perturb(self, overrides: Sequence[str], rng: random.Random) -> tuple[str, ...]:
        """Return a configuration near another one."""
        texts = dict(override.split("=", 1) for override in overrides)
        return tuple(
            f"{dimension.key}={dimension.perturb(texts[dimension.key], rng)}" for dimension in self.dimensions
        )

    def values(self, overrides: Sequence[str]) -> dict[str, Any]:
        """Return the values of a configuration by key."""
        texts = dict(override.split("=", 1) for override in overrides)
        return {dimension.key: dimension.parse(texts[dimension.key]) for dimension in self.dimensions}

    def overrides(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the configuration with these values."""
        return tuple(
            f"{dimension.key}={dimension.text(values[dimension.key])}" for dimension in self.dimensions
        )


def parse(overrides: Sequence[str]) -> SearchSpace:
    """Return the search space of arguments of `factory.train`.

    Raises:
        ValueError: an argument is malformed, or none varies.
    """
    dimensions: list[Dimension] = []
    fixed: list[str] = []
    for text in overrides:
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException as error:
            raise ValueError(f"{text}: give key=value, with special characters in quotes") from error
        if override.is_sweep_override():
            dimensions.append(_dimension(text, override))
        else:
            fixed.append(text)
    if not dimensions:
        raise ValueError("no key varies; give one a choice(...), a range(...) or an interval(...)")
    keys = [dimension.key for dimension in dimensions]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"{key}: given twice; give it once")
    return SearchSpace(dimensions=tuple(dimensions), fixed=tuple(fixed))


def _dimension(text: str, override: Override) -> Dimension:
    key = override.get_key_element()
    if isinstance(override.value(), Glob):
        raise ValueError(f"{text}: list the options, as in {key}=choice(<first>,<second>)")
    if getattr(override.value(), "shuffle", False):
        raise ValueError(f"{text}: the order must be the same after a restart; leave shuffle out")
    if not override.is_interval_sweep():
        values = tuple(dict.fromkeys(override.sweep_string_iterator()))
        if len(values) < 2:
            raise ValueError(f"{text}: one value is no choice; give several, or {key}={''.join(values)}")
        return Choice(key=key, values=values)
    sweep = override.value()
    assert isinstance(sweep, IntervalSweep)
    if sweep.start is None or sweep.end is None or not sweep.start < sweep.end:
        raise ValueError(f"{text}: give interval(<low>,<high>) with low < high")
    is_log = "log" in sweep.tags
    if is_log and sweep.start <= 0:
        raise ValueError(f"{text}: a logarithmic interval starts above 0")
    # `int(interval(1, 8))` casts the bounds; everything between them is then an integer, too.
    is_integer = isinstance(sweep.start, int) and isinstance(sweep.end, int)
    return Interval(
        key=key,
        low=float(sweep.start),
        high=float(sweep.end),
        is_log=is_log,
        is_integer=is_integer,
    )
