"""Power and speed of lines, learned from normal operation, with their spread.

All powers are increases of the node's power over the line being paused, by the bound on which the budget is
held. Without enough observations of a configuration, others stand in for it, each with a wider spread: the
same configuration at another commit or driver, then the family of tasks, then the coefficients of the meter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from statistics import median
from typing import Annotated, Any

from factory.energy.uncertainty import COVERAGE_FACTOR, student_t
from factory.floor.keys import Key
from factory.floor.plan import OperatingPoint
from factory.runtime.decoding import Count, Within

LEAST_OBSERVATIONS = 3
_MOST_OBSERVATIONS = 30
_MOST_SUBJECTS = 300
"""Together some hundred kilobytes in the store."""
_NORMAL_MAD = 1.4826
_LEAST_DUTY = 0.2
"""A line that ran for less of a window says too little about its power at full."""
_LEAST_W = 1e-9
"""A line that adds no power has no curve."""
_LEAST_SPREAD = 0.02
"""Least relative standard deviation: windows that follow each other are more alike than later ones."""
_AGED = 2.0
"""Factor on the spread of observations with another commit or driver."""
_FAMILY_SPREAD = 0.15
"""Least relative spread between tasks of a family, whose networks and batches differ."""
_PRIOR_SHARE = 0.85
"""Share of its cores that a line of unknown habits is expected to keep busy; all of them at most."""
_NO_MATTER = frozenset(
    {"seed", "total_steps", "stop_at_steps", "output_root", "run_dir", "resume", "start_from", "tracking"}
)
"""Settings of a training job that do not change its power and speed."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A configuration on a machine."""

    configuration: str
    """Hash of the settings that matter for power and speed (`configuration_hash`)."""
    family: str
    cores: Annotated[float, Within(1e-3, 1e6)]
    machine: str
    version: str
    """Commit and driver; observations of others count less."""
    gpus: Count = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """Means over a window of some seconds in which a line ran at least for a part."""

    duty: Annotated[float, Within(0.0, 1.0)]
    """Share of the window in which the line was not paused."""
    power_w: float
    tokens_per_s: float

    @property
    def full_w(self) -> float:
        """Return the power without pauses; a paused line adds none [W]."""
        return self.power_w / self.duty

    @property
    def full_tokens_per_s(self) -> float:
        """Return the speed without pauses."""
        return self.tokens_per_s / self.duty


@dataclass(frozen=True, slots=True)
class StoredCurve:
    """Observations of a subject, as they are stored."""

    subject: Subject
    observations: list[Observation]


CURVES = Key("curves", list[StoredCurve], [])


class Curves:
    """Observations of all subjects, and the operating points that follow from them."""

    def __init__(self, *, prior_w_per_core: float, prior_w_per_gpu: float = 0.0) -> None:
        """Begin without observations.

        Args:
            prior_w_per_core: Power of a busy core above an idle one, by the bound of the budget [W].
            prior_w_per_gpu: Power limit of a GPU [W].
        """
        self._prior_w_per_core = prior_w_per_core
        self._prior_w_per_gpu = prior_w_per_gpu
        self._seen: dict[Subject, list[Observation]] = {}
        self._points: dict[Subject, OperatingPoint] = {}

    def observe(self, subject: Subject, observation: Observation) -> None:
        """Add an observation; the oldest of the subject, and the oldest subject, make room."""
        if observation.duty < _LEAST_DUTY or not observation.power_w > _LEAST_W:
            return
        # A dictionary keeps its order: a subject that is seen again moves to the end.
        rows = self._seen.pop(subject, [])
        self._seen[subject] = [*rows, observation][-_MOST_OBSERVATIONS:]
        if len(self._seen) > _MOST_SUBJECTS:
            del self._seen[next(iter(self._seen))]
        self._points.clear()

    def point(self, subject: Subject) -> OperatingPoint:
        """Return power and speed of a subject at full, with the standard deviation of the next window."""
        point = self._points.get(subject)
        if point is None:
            point = self._point(subject)
            self._points[subject] = point
        return point

    def curve(self, subject: Subject) -> Curve:
        """Return the speed of a subject over its power; a line to the operating point if nothing was seen."""
        rows = self._seen.get(subject, [])
        if rows:
            return Curve.fit([(row.power_w, row.tokens_per_s) for row in rows])
        point = self.point(subject)
        return Curve(powers_w=(0.0, point.power_w), speeds=(0.0, point.tokens_per_s), sd=0.0, num_points=0)

    def subjects(self) -> tuple[Subject, ...]:
        """Return all subjects that were seen, the one seen last at the end."""
        return tuple(self._seen)

    def to_plain(self) -> list[dict[str, Any]]:
        """Return one row for each subject, for JSON."""
        return [
            {"subject": asdict(subject), "observations": [asdict(row) for row in rows]}
            for subject, rows in self._seen.items()
        ]

    def load(self, stored: Iterable[StoredCurve]) -> None:
        """Add the observations that `to_plain` returned, as the store has read them."""
        for row in stored:
            for observation in row.observations:
                self.observe(row.subject, observation)

    def _point(self, subject: Subject) -> OperatingPoint:
        # From the most like to the least like, each with a wider spread; see the top of this file.
        rows = self._seen.get(subject, [])
        if len(rows) >= LEAST_OBSERVATIONS:
            return _point_of(rows, is_prior=False)
        rows = [row for other, seen in self._seen.items() if _is_same(other, subject) for row in seen]
        if len(rows) >= LEAST_OBSERVATIONS:
            return _point_of(rows, is_prior=True, widening=_AGED)
        relatives = [
            (other, seen)
            for other, seen in self._seen.items()
            if (other.family, other.machine, other.gpus) == (subject.family, subject.machine, subject.gpus)
        ]
        if sum(len(seen) for _, seen in relatives) >= LEAST_OBSERVATIONS:
            return _family_point(subject, relatives)
        # A line cannot use more than its cores and GPUs, so that is the upper bound (k = 2) of the prior.
        most_w = self._prior_w_per_core * subject.cores + self._prior_w_per_gpu * subject.gpus
        spread_w = (1.0 - _PRIOR_SHARE) * most_w / COVERAGE_FACTOR
        return OperatingPoint(power_w=_PRIOR_SHARE * most_w, power_sd_w=spread_w)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Speed over power: through the origin, rising, and concave."""

    powers_w: tuple[float, ...]
    speeds: tuple[float, ...]
    """Tokens a second at these powers."""
    sd: float
    """Standard deviation of the observations about the curve [tokens/s]."""
    num_points: int

    @classmethod
    def fit(cls, points: Sequence[tuple[float, float]]) -> Curve:
        """Fit points of power [W] and speed [tokens/s].

        Points of like power are averaged. Slopes between neighbours that rise are pooled, weighted by their
        lengths, until they fall (pool adjacent violators); none is below zero.
        """
        bins = _averaged(points)
        # A block is (width [W], rise [tokens/s]). Merging two of them averages their slopes by width.
        blocks: list[tuple[float, float]] = []
        before = (0.0, 0.0)
        for point in bins:
            blocks.append((point[0] - before[0], point[1] - before[1]))
            before = point
            while len(blocks) > 1 and _slope(blocks[-1]) > _slope(blocks[-2]):
                last = blocks.pop()
                blocks[-1] = (blocks[-1][0] + last[0], blocks[-1][1] + last[1])
        powers_w = [0.0]
        speeds = [0.0]
        for length_w, rise in blocks:
            powers_w.append(powers_w[-1] + length_w)
            speeds.append(speeds[-1] + max(0.0, rise))
        curve = cls(powers_w=tuple(powers_w), speeds=tuple(speeds), sd=0.0, num_points=len(points))
        squares = sum((speed - curve.tokens_per_s(power_w)) ** 2 for power_w, speed in points)
        # Every block has used up one degree of freedom.
        degrees = max(1, len(points) - len(blocks))
        return cls(
            powers_w=curve.powers_w,
            speeds=curve.speeds,
            sd=sqrt(squares / degrees),
            num_points=len(points),
        )

    def tokens_per_s(self, power_w: float) -> float:
        """Return the speed at a power; constant beyond the last point."""
        for index in range(1, len(self.powers_w)):
            if power_w <= self.powers_w[index]:
                left_w = self.powers_w[index - 1]
                share = max(0.0, power_w - left_w) / (self.powers_w[index] - left_w)
                return self.speeds[index - 1] + share * (self.speeds[index] - self.speeds[index - 1])
        return self.speeds[-1]

    def interval(self, power_w: float) -> tuple[float, float]:
        """Return the 95 % prediction interval of the speed at a power; infinite without two points."""
        speed = self.tokens_per_s(power_w)
        if self.num_points < 2:
            return 0.0, float("inf")
        # The 1 is the scatter of a new observation, the 1/n the uncertainty of the curve.
        half_width = student_t(self.num_points - 1) * self.sd * sqrt(1.0 + 1.0 / self.num_points)
        return max(0.0, speed - half_width), speed + half_width


def configuration_hash(task: str, overrides: Sequence[str], *, cores: float) -> str:
    """Return a hash of the settings of a job that matter for its power and speed; seeds do not."""
    kept = sorted(text for text in overrides if _first_key(text) not in _NO_MATTER)
    content = json.dumps([task, kept, cores])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _first_key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0].partition(".")[0]


def family_of(task: str) -> str:
    """Return the family of a task: `gym` of `gym/half_cheetah`, `cartpole` of `cartpole_swingup`."""
    return task.partition("/")[0].partition("_")[0]


def _is_same(other: Subject, subject: Subject) -> bool:
    """Return whether subjects are the same but for their version."""
    return other.configuration == subject.configuration and other.machine == subject.machine


def _point_of(rows: Sequence[Observation], *, is_prior: bool, widening: float = 1.0) -> OperatingPoint:
    """Return median and spread of observations.

    Its upper bound (k = 2) is that of a prediction interval: t s sqrt(1 + 1 / n), with s the scaled median
    of the absolute deviations, which windows of start-up and compilation do not disturb.
    """
    power_w = median(row.full_w for row in rows)
    s = _NORMAL_MAD * median(abs(row.full_w - power_w) for row in rows)
    s = max(s, _LEAST_SPREAD * power_w)
    spread_w = student_t(len(rows) - 1) / COVERAGE_FACTOR * s * sqrt(1.0 + 1.0 / len(rows))
    return OperatingPoint(
        power_w=power_w,
        power_sd_w=widening * spread_w,
        tokens_per_s=median(row.full_tokens_per_s for row in rows),
        is_prior=is_prior,
    )


def _family_point(
    subject: Subject, relatives: Sequence[tuple[Subject, Sequence[Observation]]]
) -> OperatingPoint:
    """Return the power and speed per core of a family's tasks, times the cores of the subject."""
    # One value a configuration, whatever the number of its windows: the spread is that between tasks.
    powers_w = [median(row.full_w for row in seen) / other.cores for other, seen in relatives]
    speeds = [median(row.full_tokens_per_s for row in seen) / other.cores for other, seen in relatives]
    power_w = median(powers_w)
    s = _NORMAL_MAD * median(abs(other_w - power_w) for other_w in powers_w)
    return OperatingPoint(
        power_w=power_w * subject.cores,
        power_sd_w=max(s, _FAMILY_SPREAD * power_w) * subject.cores,
        tokens_per_s=median(speeds) * subject.cores,
    )


def _averaged(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return mean power and speed of the points in each twentieth of the range of powers, by rising power."""
    width_w = max(power_w for power_w, _ in points) / 20.0
    bins: dict[int, list[tuple[float, float]]] = {}
    for point in points:
        bins.setdefault(round(point[0] / width_w), []).append(point)
    return sorted(
        (sum(power_w for power_w, _ in inside) / len(inside), sum(speed for _, speed in inside) / len(inside))
        for inside in bins.values()
    )


def _slope(block: tuple[float, float]) -> float:
    length_w, rise = block
    return rise / length_w
