"""The file of a floor's store: transactions, and values that are checked where they are read.

Whoever made the file, nothing leaves it that is not of the type that its column or its key has.
"""

from __future__ import annotations

import contextlib
import copy
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Self, TypeVar

from factory.floor import schema, store_files
from factory.floor.keys import Key
from factory.floor.store_errors import store_faults
from factory.runtime import decoding

FILE = "floor.db"
_BUSY_TIMEOUT_S = 20.0
T = TypeVar("T")


class StoreFile:
    """The open file of one floor. Use it as a context manager."""

    def __init__(self, root: Path, *, create: bool = False) -> None:
        """Open the store of a floor.

        Args:
            root: folder of the floor.
            create: whether to make a store where there is none.

        Raises:
            ValueError: there is none, it is damaged, or a newer version wrote it.
            StoreError: it cannot be read or written.
        """
        self.root = root
        self._path = root / FILE
        if not self._path.is_file():
            if not create:
                raise ValueError(f"root={root}: no floor there; submit a line first")
            with store_faults(self._path):
                root.mkdir(parents=True, exist_ok=True)
        store_files.check(self._path)
        with store_faults(self._path):
            # Without an isolation level Python begins no transactions of its own; `transaction` does.
            self._connection = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
            try:
                self._set_up()
            except BaseException:
                self._connection.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes inside the block at once, or none; inside another transaction, as part of it.

        Raises:
            StoreError: the disk is full or read-only, or the file is damaged.
        """
        if self._connection.in_transaction:
            yield
            return
        with store_faults(self._path):
            # Immediate: whoever reads first and writes later may find that another process was faster.
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._forget()
                # Some errors, such as a full disk, have rolled back already.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        """Run a statement of a module with tables of its own; changes belong into a `transaction`."""
        with store_faults(self._path):
            return self._connection.execute(statement, values)

    def select(self, schema: type[T], query: str, *values: Any, name: str) -> list[T]:
        """Return the rows of a query, each as a dataclass whose fields are the columns in their order.

        Args:
            schema: the dataclass; its annotations say what a column may hold (`decoding.decode_row`).
            query: with a mark for each value.
            values: values of the query.
            name: name of a row, for the error message.

        Raises:
            ValueError: the file is damaged, or a value is not of its type.
        """
        names = [field.name for field in fields(schema)]  # type: ignore[arg-type]
        with store_faults(self._path):
            found = self._connection.execute(query, values).fetchall()
            return [
                decoding.decode_row(dict(zip(names, row, strict=True)), schema, name=name) for row in found
            ]

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Name the store where a value inside of the block is not of its type (`decoding.MismatchError`)."""
        with store_faults(self._path):
            yield

    def get(self, key: Key) -> Any:
        """Return what was put under a key, as its type says; its default if nothing was.

        Raises:
            ValueError: something else lies there.
        """
        with store_faults(self._path):
            row = self.execute("SELECT value FROM state WHERE key = ?", key.name).fetchone()
            if row is None:
                return copy.copy(key.default)
            return decoding.decode_json(row[0], key.hint, name=key.name)

    def put(self, key: Key, value: Any) -> None:
        """Keep plain values under a key."""
        with self.transaction():
            self._connection.execute(
                "INSERT INTO state (key, value) VALUES (?, ?)"
                " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (key.name, json.dumps(value)),
            )

    @property
    def floor_id(self) -> str:
        """Identity of the floor, drawn when its store was made."""
        with store_faults(self._path):
            row = self.execute("SELECT value FROM meta WHERE key = 'floor_id'").fetchone() or [None]
            return str(decoding.decode(row[0], str, name="floor_id"))

    @property
    def data_version(self) -> int:
        """Number that changes when another process has written to the store."""
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def _forget(self) -> None:
        """Forget what is known of a part that is undone."""

    def _set_up(self) -> None:
        has_tables = schema.check(self._connection, self._path)
        # With a write-ahead log `status` and other commands read while the floor writes.
        self._connection.execute("PRAGMA journal_mode = WAL")
        # A transition that was reported must survive a power loss.
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        if not has_tables:
            self._create()

    def _create(self) -> None:
        with self.transaction():
            # Another process may have been faster.
            if self._connection.execute("PRAGMA user_version").fetchone()[0]:
                return
            schema.create(self._connection)

    def _insert(self, table: str, values: Mapping[str, Any]) -> int:
        names = ", ".join(values)
        marks = ", ".join("?" * len(values))
        done = self._connection.execute(
            f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values())
        )
        return int(done.lastrowid or 0)

    def _rows(self, query: str, names: Sequence[str], arguments: tuple[Any, ...]) -> Iterator[dict[str, Any]]:
        with store_faults(self._path):
            found = self._connection.execute(query.format(", ".join(names)), arguments).fetchall()
        for row in found:
            yield dict(zip(names, row, strict=True))
