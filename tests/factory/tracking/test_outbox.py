"""The queue of what the server has yet to be told."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from factory.tracking.outbox import Outbox


def fill(path: Path, *, count: int) -> Outbox:
    """Return an outbox holding updates numbered from 0."""
    outbox = Outbox(path, check=json.loads)
    for number in range(count):
        outbox.put({"kind": "metrics", "number": number})
    return outbox


def numbers(outbox: Outbox) -> list[int]:
    """Return the numbers of the updates that wait."""
    return [update["number"] for update in outbox.peek(100)]


def test_first_in_first_out(tmp_path: Path) -> None:
    """Dropping removes from the front and putting adds at the end."""
    outbox = fill(tmp_path / "pending.jsonl", count=3)
    outbox.drop(2)
    outbox.put({"kind": "metrics", "number": 3})
    assert numbers(outbox) == [2, 3]
    assert len(outbox) == 2


def test_no_file_when_nothing_waits(tmp_path: Path) -> None:
    """The file is there only as long as the server owes an answer, and comes back with the next update."""
    outbox = fill(tmp_path / "pending.jsonl", count=2)
    outbox.drop(2)
    assert not outbox.path.exists()
    outbox.put({"kind": "metrics", "number": 9})
    assert numbers(outbox) == [9]


def test_another_process_finds_what_was_left(tmp_path: Path) -> None:
    """What was not dropped is there after a kill, but for a line half written."""
    path = tmp_path / "pending.jsonl"
    fill(path, count=3)
    with path.open("a") as file:
        file.write('{"kind": "met')
    left = Outbox(path, check=json.loads)
    left.put({"kind": "metrics", "number": 3})
    assert numbers(left) == [0, 1, 2, 3]


def test_peek_is_limited_and_changes_nothing(tmp_path: Path) -> None:
    """Peeking twice gives the same updates."""
    outbox = fill(tmp_path / "pending.jsonl", count=5)
    assert outbox.peek(2) == outbox.peek(2)
    assert len(outbox.peek(2)) == 2
    assert len(outbox) == 5


GOOD = {"kind": "metrics", "time_ms": 1, "step": 2, "metrics": {"a": 1.0}}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[" * 100_000,
        b"null",
        b'{"kind": "eval"}',
        b'{"kind": "metrics", "time_ms": 1, "step": 2, "metrics": {"a": "1"}}',
        b'{"kind": "metrics", "time_ms": 1, "step": 2, "metrics": {"a": NaN}}',
        b'{"kind": "metrics", "time_ms": 1, "step": -2, "metrics": {}}',
        b'{"kind": "metrics", "time_ms": 1, "step": 1e400, "metrics": {}}',
        b'{"kind": "metrics", "time_ms": true, "step": 2, "metrics": {}}',
        b'{"kind": "end", "time_ms": 1, "status": "DONE"}',
        b'{"kind": "artifacts", "time_ms": 1, "path": "/etc/passwd", "artifact_path": null}',
        b'{"kind": "artifacts", "time_ms": 1, "path": "a/../../b", "artifact_path": null}',
        b'{"kind": "artifacts", "time_ms": 1, "path": "a", "artifact_path": "../b"}',
    ],
    ids=lambda line: str(line[:40]),
)
def test_a_bad_line_is_set_aside_and_stops_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line: bytes
) -> None:
    """It goes into a file of its own with a warning, and the lines around it are delivered."""
    path = tmp_path / "pending.jsonl"
    good = json.dumps(GOOD).encode()
    path.write_bytes(b"\n".join([good, line, line, good]) + b"\n")
    outbox = Outbox(path)
    assert outbox.peek(10) == [GOOD]
    outbox.drop(1)
    while not (found := outbox.peek(10)):
        pass
    assert found == [GOOD]
    assert (tmp_path / "pending.jsonl.rejected").read_bytes() == 2 * (line + b"\n")
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
