"""Books over several hosts: lines that move, work that is lost, floors of one host that grow."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.floor.books import Books, LineShare
from factory.floor.floor_books import FloorBooks, StoredBooks
from factory.floor.node_meter import NodeReading
from factory.runtime.decoding import decode


def reading(time_s: float, joules: float, cpu_s: float) -> NodeReading:
    """Return a reading of a host with 2 CPUs that has no idle power."""
    return NodeReading(t_mono=time_s, dynamic_j=joules, cpu_s=cpu_s, num_cores=2.0)


def share(cpu_s: float, attempt: int) -> LineShare:
    """Return a line's share of one core."""
    return LineShare(cpu_s_total=cpu_s, cores_allocated=1.0, attempt=attempt)


def moved() -> FloorBooks:
    """Return the books of a line that cost 40 J on one host and 10 J on another one."""
    books = FloorBooks().tick("a", reading(0.0, 0.0, 0.0), {}).tick("b", reading(0.0, 0.0, 0.0), {})
    books = books.tick("a", reading(1.0, 100.0, 10.0), {7: share(4.0, attempt=1)})
    return books.tick("b", reading(1.0, 30.0, 6.0), {7: share(2.0, attempt=2)})


def test_a_line_that_moves_pays_on_both_hosts() -> None:
    """Its account is the sum; the newest attempt is that of the second host."""
    books = moved()
    account = books.account(7)
    assert account is not None
    assert (account.joules, account.cpu_s) == (pytest.approx(50.0), pytest.approx(6.0))
    assert (account.attempt, account.attempt_cpu_s) == (2, 2.0)
    assert books.lines == {7: account}
    assert (books.node_j, books.rest_j, books.cpu_s) == (130.0, pytest.approx(80.0), 16.0)


def test_lost_work_is_taken_from_the_newest_attempt_first() -> None:
    """Of 50 J, 15 are lost: the 10 of the second attempt and 5 of the first."""
    books = moved().roll_back(7, useful_j=35.0)
    assert books.by_host["b"].lines[7].waste_j == pytest.approx(10.0)
    assert books.by_host["a"].lines[7].waste_j == pytest.approx(5.0)
    assert books.lines[7].useful_j == pytest.approx(35.0)
    # What is lost already is not lost again.
    assert books.roll_back(7, useful_j=35.0).lines[7].waste_j == pytest.approx(15.0)


def test_a_closed_account_is_reopened_on_one_host() -> None:
    """A closed line leaves its energy in the totals."""
    books = moved()
    account = books.lines[7]
    closed = books.close(7)
    assert (closed.lines, closed.node_j) == ({}, 130.0)
    assert closed.account(7) is None
    assert closed.reopen(7, account, host="a").lines == {7: account}


def test_books_outlive_the_process_also_those_of_one_host() -> None:
    """What was written when floors metered their own host only is read as that host's."""
    books = moved()
    plain = json.loads(json.dumps(books.to_plain()))
    assert FloorBooks.from_stored(decode(plain, StoredBooks, name="books"), here="a") == books
    alone = Books().tick(reading(0.0, 0.0, 0.0), {}).tick(reading(1.0, 8.0, 1.0), {1: share(1.0, 1)})
    plain = decode(json.loads(json.dumps(alone.to_plain())), StoredBooks, name="books")
    found = FloorBooks.from_stored(plain, here="a")
    assert (found.node_j, found.last("a"), found.last("b")) == (8.0, alone.last, None)
    with pytest.raises(ValueError, match="books: hosts: 'a': node_j is missing"):
        decode({"node_j": 0.0, "rest_j": 0.0, "hosts": {"a": {}}}, StoredBooks, name="books")


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.floats(0.0, 1e4), st.floats(0.0, 8.0), st.integers(1, 3)),
        max_size=30,
    )
)
def test_lines_and_rest_are_the_hosts(ticks: list[tuple[str, float, float, int]]) -> None:
    """Whichever host a line runs on, and however often it moves, nothing is lost or made."""
    books = FloorBooks()
    totals: dict[str, tuple[float, float]] = {}
    for number, (host, joules, cpu_s, line) in enumerate(ticks):
        before_j, before_s = totals.get(host, (0.0, 0.0))
        totals[host] = (before_j + joules, before_s + 8.0)
        books = books.tick(host, reading(number + 1.0, *totals[host]), {line: share(cpu_s, attempt=number)})
    charged_j = sum(account.joules for account in books.lines.values())
    assert charged_j + books.rest_j == pytest.approx(books.node_j, rel=1e-9, abs=1e-9)
