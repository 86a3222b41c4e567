"""The budget is the least of site limit, schedule and latest target, and says what comes next."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from math import inf
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.floor.budget import Budget, Target, reserve_w

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()
HOUR = 3600.0


def test_without_parts_there_is_no_limit() -> None:
    """A floor without a budget may use any power."""
    budget = Budget()
    assert budget.at(NOON).limit_w == inf
    assert budget.describe(NOON) == "no limit"


def test_the_least_part_is_in_force() -> None:
    """Site limit, schedule and target each bound the power; only the first is hard."""
    budget = Budget(
        site_w=100.0,
        schedule=[(NOON, 80.0), (NOON + HOUR, 120.0)],
        targets=[Target(watts=60.0, start=NOON + 2 * HOUR, end=NOON + 3 * HOUR)],
    )
    hours = [budget.at(NOON + hours * HOUR) for hours in (-1, 0, 1, 2, 3)]
    assert [limit.limit_w for limit in hours] == [100.0, 80.0, 100.0, 60.0, 100.0]
    assert {limit.hard_w for limit in hours} == {100.0}


def test_the_latest_target_counts() -> None:
    """An overlap belongs to the target that was set last, and then the earlier one holds again."""
    budget = Budget(
        targets=[
            Target(watts=50.0, start=NOON),
            Target(watts=80.0, start=NOON + 10, end=NOON + 20),
            Target(watts=inf, start=NOON + 30, end=NOON + 40),
        ]
    )
    moments = [budget.at(NOON + t).limit_w for t in (-1, 0, 10, 19.9, 20, 30, 40)]
    assert moments == [inf, 50.0, 80.0, 80.0, 50.0, inf, 50.0]


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 9), st.integers(1, 9) | st.none(), st.integers(1, 99)), max_size=8
    ),
    time_s=st.floats(-1.0, 20.0),
)
def test_targets_are_as_plain_search_finds_them(
    rows: list[tuple[int, int | None, int]], time_s: float
) -> None:
    """At any instant the last of the rows in force counts."""
    targets = []
    for start, length, watts in rows:
        end = None
        if length is not None:
            end = float(start + length)
        targets.append(Target(watts=float(watts), start=float(start), end=end))
    in_force = [t.watts for t in targets if t.start <= time_s and (t.end is None or time_s < t.end)]
    expected = [inf, *in_force][-1]
    assert Budget(targets=targets).at(time_s).limit_w == expected


def test_ramps_of_parts_join() -> None:
    """The ramped budget changes no faster than the ramp where one part follows another."""
    budget = Budget(
        site_w=100.0,
        schedule=[(0.0, 90.0), (100.0, 40.0)],
        targets=[Target(watts=60.0, start=50.0, end=120.0)],
        ramp_w_per_s=2.0,
    )
    values = [budget.at(float(t)).limit_w for t in range(200)]
    assert max(abs(a - b) for a, b in pairwise(values)) <= 2.0 + 1e-9
    assert values[50] == 60.0
    assert values[100] == 40.0


def test_the_sentence_tells_the_present_and_the_next_budget() -> None:
    """Times are UTC, with a date only on another day."""
    schedule = [(NOON, 60.0), (NOON + 2 * HOUR, 120.0), (NOON + 20 * HOUR, 30.0)]
    budget = Budget(site_w=100.0, schedule=schedule)
    assert budget.describe(NOON) == "60 W (schedule) until 14:00 UTC, then 100 W"
    assert budget.describe(NOON + 3 * HOUR) == "100 W (site limit) until 27 Nov 2026 08:00 UTC, then 30 W"
    assert budget.describe(NOON + 21 * HOUR) == "30 W (schedule)"
    target = Target(watts=20.0, start=NOON, end=NOON + 90)
    assert Budget(targets=[target]).describe(NOON) == "20 W (target) until 12:01:30 UTC, then no limit"


def test_rows_that_change_nothing_are_not_announced() -> None:
    """The next budget is the next other value."""
    budget = Budget(site_w=50.0, schedule=[(NOON, 60.0), (NOON + HOUR, 70.0), (NOON + 2 * HOUR, 40.0)])
    assert budget.describe(NOON) == "50 W (site limit) until 14:00 UTC, then 40 W"


def test_a_clock_that_jumps_leaves_no_trace() -> None:
    """The budget at a time is the same whatever was asked before."""
    budget = Budget(schedule=[(NOON, 60.0), (NOON + HOUR, 120.0)], ramp_w_per_s=0.1)
    first = [budget.at(NOON + t).limit_w for t in (0, 1800, 3700)]
    budget.at(NOON + 1e6)
    budget.at(0.0)
    assert [budget.at(NOON + t).limit_w for t in (0, 1800, 3700)] == first


def test_the_reserve_covers_noise() -> None:
    """The reserve is the greater of a share of the budget and two standard deviations."""
    assert reserve_w(100.0, share=0.05, power_sd_w=1.0) == 5.0
    assert reserve_w(100.0, share=0.05, power_sd_w=4.0) == 8.0
    assert reserve_w(inf, share=0.05, power_sd_w=4.0) == 0.0


def test_a_year_of_rows_is_looked_up_fast() -> None:
    """100 000 rows are searched, not walked."""
    schedule = [(NOON + 300.0 * row, 50.0 + row % 7) for row in range(100_000)]
    budget = Budget(schedule=schedule, ramp_w_per_s=1.0)
    start = process_time()
    for row in range(1000):
        budget.at(NOON + 29_000.0 * row)
    assert process_time() - start < 0.5
    assert budget.at(NOON + 150.0).limit_w == pytest.approx(50.0)
