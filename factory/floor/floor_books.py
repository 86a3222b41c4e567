"""The books of a floor: those of every host it has metered, and each line's account over all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import fsum
from typing import Any, NotRequired, TypedDict

from factory.floor.books import Books, LineAccount, LineShare
from factory.floor.keys import Key
from factory.floor.node_meter import NodeReading


class StoredHost(TypedDict):
    """Books of a host, as `Books.to_plain` gives them."""

    node_j: float
    rest_j: float
    lines: Mapping[int, LineAccount]
    last: NodeReading | None


class StoredBooks(TypedDict):
    """Books as `FloorBooks.to_plain` gives them, or those of a floor that metered its own host only."""

    node_j: float
    rest_j: float
    hosts: NotRequired[Mapping[str, StoredHost]]
    lines: NotRequired[Mapping[int, LineAccount]]
    last: NotRequired[NodeReading | None]


BOOKS = Key("books", StoredBooks, {})


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorBooks:
    """Totals over hosts since the floor was founded; each method returns new ones.

    A line that moves has an account on every host that it ran on.
    """

    by_host: Mapping[str, Books] = field(default_factory=dict)

    @property
    def node_j(self) -> float:
        """Return the energy of all hosts [J]: the lines and the rest."""
        return fsum(books.node_j for books in self.by_host.values())

    @property
    def rest_j(self) -> float:
        """Return the energy that no line was charged with [J]."""
        return fsum(books.rest_j for books in self.by_host.values())

    @property
    def cpu_s(self) -> float:
        """Return the CPU time of everything that ran on the hosts [s]."""
        return fsum(books.last.cpu_s for books in self.by_host.values() if books.last is not None)

    @property
    def lines(self) -> dict[int, LineAccount]:
        """Return the account of each line over all hosts, with the newest attempt of any."""
        numbers = {line for books in self.by_host.values() for line in books.lines}
        return {line: _total([account for _, account in self._accounts(line)]) for line in sorted(numbers)}

    def account(self, line: int) -> LineAccount | None:
        """Return the account of a line over all hosts; None if it has none."""
        accounts = [account for _, account in self._accounts(line)]
        if not accounts:
            return None
        return _total(accounts)

    def last(self, host: str) -> NodeReading | None:
        """Return the last reading of a host, None before the first."""
        books = self.by_host.get(host)
        if books is None:
            return None
        return books.last

    def tick(self, host: str, reading: NodeReading, shares: Mapping[int, LineShare]) -> FloorBooks:
        """Charge the energy of a host since its last tick to the lines there (`Books.tick`)."""
        return self._with(host, self.by_host.get(host, Books()).tick(reading, shares))

    def gap(self, host: str, reading: NodeReading, shares: Mapping[int, LineShare]) -> FloorBooks:
        """Charge the energy of a host since its last tick to the rest (`Books.gap`)."""
        return self._with(host, self.by_host.get(host, Books()).gap(reading, shares))

    def roll_back(self, line: int, *, useful_j: float) -> FloorBooks:
        """Count all energy of a line as waste that went in after a state (`Books.roll_back`).

        What was lost went in last, so the hosts of its newest attempts bear it first.
        """
        accounts = sorted(self._accounts(line), key=lambda found: found[1].attempt, reverse=True)
        lost_j = max(0.0, fsum(account.useful_j for _, account in accounts) - max(0.0, useful_j))
        found = self
        for host, account in accounts:
            share_j = min(lost_j, account.useful_j)
            lost_j -= share_j
            books = found.by_host[host].roll_back(line, useful_j=account.useful_j - share_j)
            found = found._with(host, books)
        return found

    def close(self, line: int) -> FloorBooks:
        """Take the accounts of a line that has ended off the books (`Books.close`)."""
        return self._each(lambda books: books.close(line))

    def reopen(self, line: int, account: LineAccount, *, host: str) -> FloorBooks:
        """Take the account of a line that goes on back onto the books of a host."""
        return self._with(host, self.by_host.get(host, Books()).reopen(line, account))

    def to_plain(self) -> dict[str, Any]:
        """Return values for JSON."""
        hosts = {host: books.to_plain() for host, books in self.by_host.items()}
        return {"node_j": self.node_j, "rest_j": self.rest_j, "hosts": hosts}

    @classmethod
    def from_stored(cls, stored: StoredBooks, *, here: str) -> FloorBooks:
        """Return the books that a store held; without hosts they are those of the host `here`."""
        alone: StoredHost = {"lines": {}, "last": None, **stored}  # type: ignore[typeddict-unknown-key]
        hosts = stored.get("hosts", {here: alone})
        return cls(
            by_host={
                host: Books(
                    node_j=books["node_j"],
                    rest_j=books["rest_j"],
                    lines=books["lines"],
                    last=books["last"],
                )
                for host, books in hosts.items()
            }
        )

    def _accounts(self, line: int) -> Iterator[tuple[str, LineAccount]]:
        for host, books in self.by_host.items():
            if line in books.lines:
                yield host, books.lines[line]

    def _with(self, host: str, books: Books) -> FloorBooks:
        return replace(self, by_host={**self.by_host, host: books})

    def _each(self, change: Callable[[Books], Books]) -> FloorBooks:
        return replace(self, by_host={host: change(books) for host, books in self.by_host.items()})


def _total(accounts: list[LineAccount]) -> LineAccount:
    """Return the sum of a line's accounts."""
    newest = max(accounts, key=lambda account: account.attempt)
    return LineAccount(
        joules=fsum(account.joules for account in accounts),
        waste_j=fsum(account.waste_j for account in accounts),
        cpu_s=fsum(account.cpu_s for account in accounts),
        attempt=newest.attempt,
        attempt_cpu_s=newest.attempt_cpu_s,
    )
