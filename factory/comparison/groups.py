"""Groups of runs that differ in nothing but the seed, and the check that groups are comparable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from math import isfinite
from statistics import fmean

from factory.comparison.runs import UNKNOWN, ComparedRun
from factory.energy.tokens import check_comparable
from factory.energy.types import Tier

IGNORED = ("seed", "output_root", "resume")
"""Keys that do not make another setting: the seed, and where the files are."""
SETTING_TAGS = ("device", "git.commit")
"""Tags that make another setting: another machine, another version of the code."""
COMPARABLE_TAGS = ("task", "token_spec.hash", "energy.boundary")
"""Tags of runs whose metrics compare only where they are equal."""
_LEADING = (
    "task.name",
    "robot",
    "policy.name",
    "learner.name",
    "physics.name",
    "machine",
    "git.commit",
    "num_envs",
)
"""Keys that come first in a group's name."""
_NAMED_KEYS = 3
"""Keys in a group's name, more only where those do not tell the groups apart."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs of one setting."""

    name: str
    runs: tuple[ComparedRun, ...]
    settings: dict[str, str]
    """The keys in which groups differ, and this group's values."""

    def by_seed(self, value_of: Callable[[ComparedRun], float]) -> list[float]:
        """Return a value of every seed that has it as a finite number.

        Runs that repeat a seed are averaged; counted singly, they would make seeds look too similar.
        """
        found: dict[str, list[float]] = {}
        for run in self.runs:
            value = value_of(run)
            if isfinite(value):
                # Several runs of one seed are no independent sample.
                found.setdefault(run.seed, []).append(value)
        return [fmean(values) for values in found.values()]

    def tag(self, key: str) -> str:
        """Return the values that the runs have of a tag, joined by a comma."""
        return ", ".join(sorted({run.tag(key) for run in self.runs}))

    @property
    def seeds(self) -> tuple[str, ...]:
        """Seeds of the runs, each once."""
        return tuple(dict.fromkeys(run.seed for run in self.runs))

    @property
    def tier(self) -> str:
        """Worst energy tier of the runs; `unknown` if one has none that is known."""
        # The mean is only as good as its worst run.
        tiers = {run.tag("energy.tier") for run in self.runs}
        # A run of another version, or of a stranger, may name a tier that does not exist.
        if not tiers <= set(Tier):
            return UNKNOWN
        return str(Tier.worst(map(Tier, tiers)))


def check_all_comparable(runs: Sequence[ComparedRun], *, force: bool) -> None:
    """Refuse runs of different tasks, token specs or energy boundaries.

    Raises:
        ValueError: They differ, and `force` is not set.
    """
    for tag in COMPARABLE_TAGS:
        # One run of each value is enough for the message.
        first_of_each = {run.tag(tag): run.location for run in reversed(runs)}
        check_comparable({run: value for value, run in first_of_each.items()}, what=tag, force=force)


def group_runs(runs: Sequence[ComparedRun]) -> list[Group]:
    """Put runs together that differ only in `IGNORED` keys; groups are in the order of their first runs."""
    found: dict[tuple[tuple[str, str], ...], list[ComparedRun]] = {}
    for run in runs:
        # Equal settings in another order are one setting.
        found.setdefault(tuple(sorted(_setting(run).items())), []).append(run)
    settings = [dict(key) for key in found]
    differing = _differing(settings)
    # Names come last, since they depend on the keys in which all groups differ.
    names = _names(settings, differing, alone=runs[0].tag("task"))
    return [
        Group(name=name, runs=tuple(members), settings={key: setting.get(key, "-") for key in differing})
        for name, setting, members in zip(names, settings, found.values(), strict=True)
    ]


def _setting(run: ComparedRun) -> dict[str, str]:
    config = {key: value for key, value in run.config.items() if key not in IGNORED}
    # `device` is a key of the configuration, too, with another meaning.
    names = {"device": "machine"}
    return config | {names.get(tag, tag): run.tag(tag) for tag in SETTING_TAGS}


def _differing(settings: Sequence[dict[str, str]]) -> list[str]:
    """Return the keys in which settings differ, the most informative ones first."""
    # A key that some settings lack differs, too.
    keys = {key for setting in settings for key in setting}
    differing = [key for key in keys if len({setting.get(key) for setting in settings}) > 1]
    # Known keys in their order, then the others by name.
    order = {key: place for place, key in enumerate(_LEADING)}
    return sorted(differing, key=lambda key: (order.get(key, len(_LEADING)), key))


def _names(settings: Sequence[dict[str, str]], differing: Sequence[str], *, alone: str) -> list[str]:
    """Name every setting by the keys in which they differ; more than three only where needed."""
    if len(settings) == 1:
        return [alone]
    # One more key at a time until every name is unique.
    for length in count(_NAMED_KEYS):
        shown = differing[:length]
        hidden = len(differing) - length
        names = [", ".join(f"{key}={_short(setting.get(key, '-'))}" for key in shown) for setting in settings]
        if len(set(names)) == len(names) or hidden <= 0:
            break
    if hidden <= 0:
        return names
    return [f"{name} (+{hidden} more)" for name in names]


def _short(value: str) -> str:
    if len(value) <= 24:
        return value
    # Both ends of paths and hashes are informative.
    return f"{value[:12]}...{value[-9:]}"
