"""Books: lines and the rest add up to the node, whatever happens; nobody pays for others."""

from __future__ import annotations

import json
from dataclasses import replace
from math import fsum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.floor.books import Books, LineShare
from factory.floor.floor_books import StoredHost
from factory.floor.node_meter import NodeReading
from factory.runtime.decoding import decode

ZERO = NodeReading(num_cores=4.0)


def later(
    before: NodeReading,
    *,
    dynamic_j: float = 0.0,
    idle_j: float = 0.0,
    gpu_j: float = 0.0,
    cpu_s: float = 0.0,
) -> NodeReading:
    """Return a reading one second after another one."""
    return replace(
        before,
        t_mono=before.t_mono + 1.0,
        dynamic_j=before.dynamic_j + dynamic_j,
        idle_j=before.idle_j + idle_j,
        gpu_j=before.gpu_j + gpu_j,
        cpu_s=before.cpu_s + cpu_s,
    )


def founded() -> Books:
    """Return books whose zero is set."""
    return Books().tick(ZERO, {})


def share(cpu_s: float, cores: float = 1.0, gpu: float = 0.0, attempt: int = 1) -> LineShare:
    """Return a line's share."""
    return LineShare(cpu_s_total=cpu_s, cores_allocated=cores, gpu_share=gpu, attempt=attempt)


def test_dynamic_by_cpu_time_and_idle_by_cores() -> None:
    """With 3 of 8 CPU seconds and 1 of 4 cores a line pays 3/8 of the load and 1/4 of the idle energy."""
    reading = later(ZERO, dynamic_j=80.0, idle_j=12.0, cpu_s=8.0)
    books = founded().tick(reading, {1: share(3.0), 2: share(1.0, cores=2.0)})
    assert books.lines[1].joules == pytest.approx(33.0)
    assert books.lines[2].joules == pytest.approx(16.0)
    assert books.rest_j == pytest.approx(43.0)
    assert books.node_j == pytest.approx(92.0)


def test_paused_line_pays_for_its_cores_only() -> None:
    """Without CPU time there is no dynamic energy."""
    books = founded().tick(later(ZERO, dynamic_j=10.0, idle_j=4.0, cpu_s=1.0), {1: share(0.0), 2: share(1.0)})
    assert books.lines[1].joules == pytest.approx(1.0)
    assert books.lines[2].joules == pytest.approx(11.0)


def test_gpu_goes_by_its_own_share() -> None:
    """CPU time moves no joule of a GPU, and shares of more than a whole are scaled down."""
    reading = later(ZERO, gpu_j=100.0, cpu_s=1.0)
    assert founded().tick(reading, {1: share(1.0, gpu=0.25)}).lines[1].joules == pytest.approx(25.0)
    crowded = founded().tick(reading, {1: share(0.5, gpu=1.0), 2: share(0.5, gpu=1.0)})
    assert crowded.lines[1].joules == crowded.lines[2].joules == pytest.approx(50.0)
    assert crowded.rest_j == 0.0


def test_lines_that_show_more_cpu_time_than_the_node_are_clamped() -> None:
    """The node was read a moment before its lines: no joule is made up, and none is left."""
    books = founded().tick(later(ZERO, dynamic_j=9.0, cpu_s=1.0), {1: share(2.0), 2: share(1.0)})
    assert books.lines[1].joules == pytest.approx(6.0)
    assert books.rest_j == pytest.approx(0.0)


def test_second_attempt_counts_from_zero() -> None:
    """A new process tree starts its own count, even one that has caught up with the old one."""
    first = later(ZERO, dynamic_j=10.0, cpu_s=2.0)
    second = later(first, dynamic_j=10.0, cpu_s=2.0)
    books = founded().tick(first, {1: share(1.0)}).tick(second, {1: share(2.0, attempt=2)})
    assert books.lines[1].joules == pytest.approx(15.0)
    assert books.lines[1].cpu_s == pytest.approx(3.0)


def test_account_that_was_closed_goes_on() -> None:
    """A promoted trial's account is closed at a rung and opened again: joules and rest are the node."""
    first = later(ZERO, dynamic_j=8.0, cpu_s=1.0)
    books = founded().tick(first, {1: share(1.0)})
    closed = books.lines[1]
    books = books.close(1)
    assert not books.lines
    second = later(first, dynamic_j=6.0, cpu_s=1.0)
    books = books.reopen(1, closed).tick(second, {1: share(0.5, attempt=2)})
    assert books.lines[1].joules == pytest.approx(11.0)
    assert books.lines[1].joules + books.rest_j == pytest.approx(books.node_j)


def test_time_without_a_floor_goes_to_the_rest() -> None:
    """A line that ran on while the floor was dead is charged from the first tick of the new floor on."""
    before = later(ZERO, dynamic_j=10.0, cpu_s=1.0)
    books = Books(**decode(founded().tick(before, {1: share(1.0)}).to_plain(), StoredHost, name="books"))
    dead = later(before, dynamic_j=1000.0, idle_j=50.0, cpu_s=100.0)
    books = books.gap(dead, {1: share(101.0)})
    assert books.lines[1].joules == pytest.approx(10.0)
    assert books.lines[1].cpu_s == pytest.approx(101.0)
    assert books.rest_j == pytest.approx(1050.0)
    books = books.tick(later(dead, dynamic_j=10.0, cpu_s=2.0), {1: share(102.0)})
    assert books.lines[1].joules == pytest.approx(15.0)


def test_waste_is_what_went_in_after_the_checkpoint() -> None:
    """Work that is done twice, or thrown away at the end, stays on the books as waste."""
    reading = later(ZERO, dynamic_j=60.0, cpu_s=1.0)
    books = founded().tick(reading, {1: share(1.0)})
    at_checkpoint_j = books.lines[1].useful_j
    reading = later(reading, dynamic_j=40.0, cpu_s=1.0)
    books = books.tick(reading, {1: share(2.0)}).roll_back(1, useful_j=at_checkpoint_j)
    assert (books.lines[1].joules, books.lines[1].waste_j) == (pytest.approx(100.0), pytest.approx(40.0))
    # The second attempt fails before any checkpoint, and goes on from the same one.
    reading = later(reading, dynamic_j=30.0, cpu_s=1.0)
    books = books.tick(reading, {1: share(1.0, attempt=2)}).roll_back(1, useful_j=at_checkpoint_j)
    assert books.lines[1].waste_j == pytest.approx(70.0)
    # Given up: everything was in vain, and nothing counts twice.
    books = books.roll_back(1, useful_j=0.0)
    assert books.lines[1].waste_j == books.lines[1].joules == pytest.approx(130.0)


AMOUNT = st.floats(0.0, 1e6)
SHARE = st.tuples(st.floats(0.0, 1e5), st.floats(0.0, 64.0), st.floats(0.0, 1.0), st.booleans())
TICK = st.fixed_dictionaries(
    {
        "dynamic_j": AMOUNT,
        "idle_j": AMOUNT,
        "gpu_j": AMOUNT,
        "cpu_s": AMOUNT,
        "shares": st.dictionaries(st.integers(1, 5), SHARE, max_size=5),
        "event": st.sampled_from(["none", "none", "restart", "gap", "lost"]),
    }
)


@given(ticks=st.lists(TICK, min_size=1, max_size=25))
def test_books_conserve_through_anything(ticks: list[dict]) -> None:
    """In every tick and in total lines + rest = node, nothing falls, and nothing is negative."""
    books = founded()
    reading = ZERO
    truth_j = []
    counts: dict[int, LineShare] = {}
    for entry in ticks:
        step = {key: entry[key] for key in ("dynamic_j", "idle_j", "gpu_j", "cpu_s")}
        before, reading = reading, later(reading, **step)
        truth_j.append(reading.joules_total - before.joules_total)
        shares = {}
        for line, (cpu_s, cores, gpu, is_new) in entry["shares"].items():
            old = counts.get(line, share(0.0))
            if is_new:
                shares[line] = share(cpu_s, cores, gpu, attempt=old.attempt + 1)
            else:
                shares[line] = share(old.cpu_s_total + cpu_s, cores, gpu, attempt=old.attempt)
        counts |= shares
        if entry["event"] == "restart":
            books = Books(**decode(json.loads(json.dumps(books.to_plain())), StoredHost, name="books"))
        earlier = books
        books = books.gap(reading, shares) if entry["event"] == "gap" else books.tick(reading, shares)
        if entry["event"] == "lost" and shares:
            books = books.roll_back(min(shares), useful_j=0.5 * books.lines[min(shares)].useful_j)
        assert_conserved(books)
        assert books.node_j - earlier.node_j == pytest.approx(truth_j[-1], rel=1e-9, abs=1e-9 * books.node_j)
        assert books.rest_j >= earlier.rest_j
        for line, account in earlier.lines.items():
            assert books.lines[line].joules >= account.joules
            assert books.lines[line].cpu_s >= account.cpu_s
    assert books.node_j == pytest.approx(fsum(truth_j), rel=1e-9)


def assert_conserved(books: Books) -> None:
    """Check that the accounts add up and that waste is a part of them."""
    parts_j = fsum([books.rest_j, *(account.joules for account in books.lines.values())])
    assert parts_j == pytest.approx(books.node_j, rel=1e-9, abs=1e-300)
    for account in books.lines.values():
        assert 0.0 <= account.waste_j <= account.joules


@pytest.mark.parametrize(
    "plain", [{}, {"node_j": 0.0}, {"node_j": 0, "rest_j": 0, "last": None, "lines": []}]
)
def test_books_that_are_no_books_are_refused(plain: dict) -> None:
    """A damaged row is named as such."""
    with pytest.raises(ValueError, match="books: "):
        decode(plain, StoredHost, name="books")
