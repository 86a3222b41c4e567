"""Tables of the floor's store."""

from __future__ import annotations

import re
import sqlite3
import uuid
from pathlib import Path

VERSION = 1
"""Written into the file; a store of a greater version is refused."""

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE line (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    task TEXT NOT NULL,
    overrides TEXT NOT NULL,
    spec_hash TEXT NOT NULL,
    total_steps INTEGER NOT NULL,
    needs TEXT NOT NULL,
    priority INTEGER NOT NULL,
    flex INTEGER NOT NULL,
    deadline REAL,
    owner TEXT NOT NULL,
    cwd TEXT NOT NULL,
    created_at REAL NOT NULL,
    state TEXT NOT NULL,
    state_since REAL NOT NULL,
    reason TEXT NOT NULL,
    is_held INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0,
    run_dir TEXT NOT NULL,
    exit_class TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    root_cause TEXT NOT NULL DEFAULT '',
    steps INTEGER NOT NULL DEFAULT 0,
    tokens INTEGER NOT NULL DEFAULT 0,
    tokens_per_s REAL NOT NULL DEFAULT 0,
    joules REAL NOT NULL DEFAULT 0,
    waste_j REAL NOT NULL DEFAULT 0,
    power_w REAL NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX line_by_state ON line (state);
CREATE INDEX line_by_hash ON line (spec_hash);

CREATE TABLE attempt (
    line INTEGER NOT NULL REFERENCES line (id),
    number INTEGER NOT NULL,
    folder TEXT NOT NULL,
    handle TEXT,
    started_at REAL NOT NULL,
    steps_from INTEGER NOT NULL,
    ended_at REAL,
    exit_class TEXT,
    root_cause TEXT NOT NULL DEFAULT '',
    steps_to INTEGER,
    joules REAL NOT NULL DEFAULT 0,
    cpu_s REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (line, number)
) STRICT;

CREATE TABLE event (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    line INTEGER,
    details TEXT NOT NULL,
    previous TEXT NOT NULL,
    digest TEXT NOT NULL
) STRICT;
CREATE INDEX event_by_line ON event (line);

CREATE TABLE command (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    verb TEXT NOT NULL,
    line INTEGER,
    arguments TEXT NOT NULL,
    done_at REAL,
    outcome TEXT
) STRICT;

CREATE TABLE sample (
    at REAL PRIMARY KEY,
    budget_w REAL,
    power_w REAL NOT NULL,
    joules REAL NOT NULL,
    tokens INTEGER NOT NULL,
    tokens_per_s REAL NOT NULL,
    cpu_s REAL NOT NULL,
    running INTEGER NOT NULL
) STRICT;

CREATE TABLE sweep (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at REAL NOT NULL,
    plan TEXT NOT NULL,
    template TEXT NOT NULL
) STRICT;

CREATE TABLE trial (
    sweep INTEGER NOT NULL REFERENCES sweep (id),
    number INTEGER NOT NULL,
    line INTEGER NOT NULL REFERENCES line (id),
    is_running INTEGER NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (sweep, number)
) STRICT;

CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""
MOST_BYTES = 64 << 20
"""Longest text in a store; the longest of our own is a signal of 20,000 points, below 2 MB."""
_STATEMENTS = {
    # CREATE, TABLE or INDEX, and the name.
    statement.split()[2]: " ".join(statement.split())
    for statement in TABLES.split(";\n")
    if statement.strip()
}
_COMPUTED = re.compile(r"\b(as|virtual)\b", re.IGNORECASE)


def check(connection: sqlite3.Connection, path: Path) -> bool:
    """Return whether a file has the tables of a floor; False if it is empty. Nothing in it is changed.

    Raises:
        ValueError: it is the database of something else, or of a newer version.
    """
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_BYTES)
    # What a schema calls may be harmful where the schema is a stranger's.
    connection.execute("PRAGMA trusted_schema = OFF")
    # Before the version, since another process may be making the tables just now.
    found = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise ValueError(
            f"{path}: written by a newer version of the factory (store {version}, this one knows {VERSION});"
            " update the factory, or choose another --root"
        )
    if (version == 0 and found) or not all(_is_ours(*row) for row in found):
        raise ValueError(f"{path}: not the database of a floor; choose another --root")
    return version > 0


def _is_ours(kind: str, name: str, sql: str | None) -> bool:
    """Tell whether an entry of the schema may be one that this package has made."""
    if sql is None or name.startswith("sqlite_"):
        # SQLite's own indexes and counters.
        return True
    text = " ".join(sql.split())
    if name in _STATEMENTS:
        return text == _STATEMENTS[name]
    # The operator's tables. A view in place of a table may never end, a trigger changes more than it is told
    # to, a virtual table runs code of its own, and a generated column (`AS`) computes what it likes.
    return kind == "table" and text.endswith(") STRICT") and not _COMPUTED.search(text)


def create(connection: sqlite3.Connection) -> None:
    """Make all tables and draw the identity of the floor, inside a transaction of the caller's."""
    # One by one: `executescript` would end the transaction.
    for statement in _STATEMENTS.values():
        connection.execute(statement)
    connection.execute("INSERT INTO meta (key, value) VALUES ('floor_id', ?)", (uuid.uuid4().hex,))
    # Last of all: a store with a version is complete.
    connection.execute(f"PRAGMA user_version = {VERSION}")
