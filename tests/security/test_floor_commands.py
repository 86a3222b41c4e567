"""Exploits by a floor's folder, by the output of a line and by endpoints, against commands that only look."""

from __future__ import annotations

import io
import json
import os
import socket
import sqlite3
import struct
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from floor_lines import make_line

from factory.floor import logs as floor_logs
from factory.floor.command_line import main as floor
from factory.floor.lines import Attempt, LineState
from factory.floor.questions import answer, command
from factory.floor.records import RUNNING
from factory.floor.store import FILE, Store
from factory.grid.intake import SETTINGS
from factory.operator.deciders.chat import MOST_BYTES
from factory.operator.journal import Journal
from factory.operator.replay import ReplayEndpoint, read_answers
from factory.operator.scoring.command import Book
from factory.operator.stored import FINDINGS
from factory.runtime.atomic_write import atomic_write
from factory.site.command_line import main as site
from factory.tracking.journal import Journal as MetricsJournal
from factory.tracking.outbox import Outbox

ESCAPE = "\x1b]0;owned\x07\x9b2J"
_PAGE = 4096


def run(command: Any, *arguments: str) -> int:
    """Run a command in this process and return its status."""
    with pytest.raises(SystemExit) as ended:
        command(list(arguments))
    return int(ended.value.code or 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a floor with a line that has run, failed, and printed something."""
    root = tmp_path / "floor"
    with Store(root, create=True) as store:
        line = store.add_line(make_line(name=ESCAPE, owner=ESCAPE))
        folder = root / "lines" / "1" / "1"
        store.add_attempt(
            Attempt(line=1, number=1, folder=str(folder), handle=None, started_at=1.0, steps_from=0)
        )
        for state in (LineState.STARTING, LineState.RUNNING, LineState.FAILED):
            line = store.move(line, state, ESCAPE)
        Journal(store)
    folder.mkdir(parents=True)
    return root


def _refused_by_all(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = ("status", "why 1", "logs 1", "report", "ask running", "operator", "grid list", "budget list")
    for text in commands:
        assert run(floor, *text.split(), "--root", str(root)) == 2, text
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1) and FILE in err, text
    assert run(site, "project", f"from={root}", "mlflow=false") == 2
    capsys.readouterr()


def test_a_journal_deletes_no_file_elsewhere(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SQLite deletes the super-journal that a journal names, after it has rolled the journal back."""
    victim = tmp_path / "thesis.tex"
    victim.write_text("three years of work\n")
    name = str(victim).encode()
    magic = bytes.fromhex("d9d505f920a163d7")
    pages = (root / FILE).stat().st_size // _PAGE
    head = (magic + struct.pack(">IIIII", 0, 0, pages, 512, _PAGE)).ljust(512, b"\0")
    tail = struct.pack(">I", 0x40000000 // _PAGE + 1) + name + struct.pack(">II", len(name), sum(name))
    (root / f"{FILE}-journal").write_bytes(head + tail + magic)
    _refused_by_all(root, capsys)
    assert victim.read_text() == "three years of work\n"


@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm"])
def test_no_command_waits_for_a_pipe_or_writes_through_a_link_beside_the_store(
    root: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """SQLite opens the files beside a database without a look at their kind."""
    beside = root / f"{FILE}{suffix}"
    beside.unlink(missing_ok=True)
    os.mkfifo(beside)
    _refused_by_all(root, capsys)
    beside.unlink()
    outside = tmp_path / "outside"
    outside.write_text("mine")
    beside.symlink_to(outside)
    _refused_by_all(root, capsys)
    assert outside.read_text() == "mine"


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW decision AS SELECT 1 AS status",
        "CREATE TRIGGER t AFTER INSERT ON event BEGIN DELETE FROM line; END",
        "CREATE VIRTUAL TABLE words USING fts5(x)",
        "CREATE TABLE operator_cost (a TEXT, b TEXT GENERATED ALWAYS AS (hex(zeroblob(1e9)))) STRICT",
        "CREATE TABLE operator_cost (a)",
        "CREATE INDEX other ON line (hex(name))",
        "DROP TABLE state; CREATE TABLE state (key TEXT PRIMARY KEY, value)",
    ],
)
def test_a_schema_that_computes_is_refused(
    root: Path, statement: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tables of a floor are those that this package makes, whoever has made the file."""
    with sqlite3.connect(root / FILE) as connection:
        connection.execute("DROP TABLE decision")
        connection.executescript(statement)
    _refused_by_all(root, capsys)


def test_a_question_ends(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A store full of prices and samples can keep SQLite busy for hours; a limit ends that in one line."""
    points = [[0.0, 4e9 - place, 0.1, float(place), False] for place in range(2000)]
    start = time.time() - 1e5
    rows = [(start + 10.0 * place, None, 1.0, float(place), 0, 0.0, 0.0, 1) for place in range(2000)]
    with sqlite3.connect(root / FILE) as connection:
        connection.execute("INSERT INTO state VALUES ('grid_signal/price', ?)", (json.dumps(points),))
        connection.executemany("INSERT INTO sample VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    monkeypatch.setattr(command, "_LONGEST_S", 0.02)
    monkeypatch.setattr(answer, "_INSTRUCTIONS", 1000)
    assert run(floor, "ask", "cost_by_hour", "hours=100000", "--root", str(root)) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and "hours=1" in err


def test_no_text_of_a_floor_steers_the_terminal(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names, reasons, findings and tiers are spelled out by every command, and JSON escapes them itself."""
    finding = {"id": ESCAPE, "severity": ESCAPE, "since": 0.0, "evidence": []}
    with Store(root) as store:
        store.put(RUNNING, {"tier": ESCAPE, "budget": ESCAPE})
        store.put(FINDINGS, [finding])
        store.put(SETTINGS, {"feed": ESCAPE, "pue": 1.2})
        store.record("operator finding", line=1, details={"id": ESCAPE, "severity": ESCAPE})
        with store.transaction():
            store.execute("UPDATE attempt SET ended_at = 2e9, exit_class = 'crash', root_cause = ?", ESCAPE)
    (root / "grid").mkdir(exist_ok=True)
    (root / "grid" / "outbox.jsonl").write_text(ESCAPE)
    commands = ["status", "why 1", "report", "operator", "grid list", "grid outbox", "grid costs"]
    commands += [f"ask {name} hours=90000" for name in ("ran", "broke", "preempted", "cost_by_hour")]
    commands += ["ask costliest", "ask owners", "ask history line=1", "ask running --json", "report --json"]
    for text in commands:
        status = run(floor, *text.split(), "--root", str(root))
        out, err = capsys.readouterr()
        assert status == 0 or (status == 2 and err.count("\n") == 1), text
        assert not {"\x1b", "\x07", "\x9b"} & set(out + err), text


class _Terminal(io.TextIOWrapper):
    """Standard output that is a terminal, or is none."""

    is_terminal = True

    def isatty(self) -> bool:
        return self.is_terminal


def _logs(root: Path, monkeypatch: pytest.MonkeyPatch, *options: str, is_terminal: bool) -> bytes:
    shown = io.BytesIO()
    stream = _Terminal(shown, encoding="utf-8")
    stream.is_terminal = is_terminal
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert run(floor, "logs", "1", *options, "--root", str(root)) == 0
        stream.flush()
    return shown.getvalue()


def test_output_of_a_line_is_text_on_a_terminal_and_bytes_in_a_pipe(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sequences are spelled out, also across two pieces; tabs and ends of lines stay what they are."""
    monkeypatch.setattr("factory.runtime.stored_files._PIECE_BYTES", 3)
    content = "a\tb\r\n10 %\r20 %\r\x1b[31mred\x1b[0m \u00b5 \u202e\x9b2J\n".encode() + b"\xff\x00\n"
    (root / "lines" / "1" / "1" / "stdout").write_bytes(content)
    shown = "a\tb\n10 %\n20 %\n\\x1b[31mred\\x1b[0m \u00b5 \\u202e\\x9b2J\n\ufffd\\x00\n"
    assert _logs(root, monkeypatch, is_terminal=True).decode() == shown
    assert _logs(root, monkeypatch, "--raw", is_terminal=True) == content
    assert _logs(root, monkeypatch, is_terminal=False) == content


def test_output_of_a_line_is_a_file_of_its_floor(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the store nor a link sends `logs` elsewhere, and a pipe does not keep it waiting."""
    secret = tmp_path / "elsewhere"
    secret.mkdir()
    (secret / "stdout").write_text("secret")
    with sqlite3.connect(root / FILE) as connection:
        connection.execute("UPDATE attempt SET folder = ?", (str(secret),))
    own = root / "lines" / "1" / "1"
    assert run(floor, "logs", "1", "--root", str(root)) == 0
    assert capsys.readouterr().out == ""
    for make in (lambda: os.mkfifo(own / "stderr"), lambda: (own / "stderr").symlink_to(secret / "stdout")):
        make()
        assert run(floor, "logs", "1", "--root", str(root)) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1) and "stderr" in err
        (own / "stderr").unlink()
    own.rmdir()
    own.symlink_to(secret)
    assert run(floor, "logs", "1", "--root", str(root)) == 2
    assert "secret" not in capsys.readouterr().out


def test_a_pipe_for_a_lock_keeps_nobody_waiting_and_a_linked_outbox_is_not_shown(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other files of a floor are opened with as little trust as its store."""
    os.mkfifo(root / "floor.lock")
    for text in ("status", "why 1", "report", "operator"):
        assert run(floor, *text.split(), "--root", str(root)) == 0
    (tmp_path / "secret").write_text("secret")
    (root / "grid").mkdir()
    (root / "grid" / "outbox.jsonl").symlink_to(tmp_path / "secret")
    capsys.readouterr()
    assert run(floor, "grid", "outbox", "--root", str(root)) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and "outbox.jsonl" in err


def test_nothing_is_appended_through_a_link_that_takes_the_place_of_a_file(tmp_path: Path) -> None:
    """Somebody who can write to a run folder may swap a file after it was checked."""
    victim = tmp_path / "authorized_keys"
    victim.write_text("mine")
    journal = MetricsJournal(tmp_path / "run" / "metrics.jsonl")
    outbox = Outbox(tmp_path / "run" / "outbox.jsonl")
    for path in (journal.path, outbox.path):
        path.unlink(missing_ok=True)
        path.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        journal.append({"time/wall_s": 1.0}, 1)
    with pytest.raises(OSError, match="symbolic links"):
        outbox.put({"kind": "metrics"})
    with pytest.raises(OSError, match="symbolic links"):
        MetricsJournal(journal.path)
    assert victim.read_text() == "mine"


def test_a_log_that_grows_has_an_end(tmp_path: Path) -> None:
    """What is written while it is shown is not waited for."""
    path = tmp_path / "stdout"
    path.write_bytes(b"x" * 10)
    pieces = floor_logs.stored_files.read_pieces(path)
    first = next(pieces)
    with path.open("ab") as file:
        file.write(b"y" * 1000)
    assert first + b"".join(pieces) == b"x" * 10


def test_no_file_is_written_through_a_planted_link(root: Path, tmp_path: Path) -> None:
    """The name of an unfinished page can be guessed, so a link may wait there."""
    victim = tmp_path / "bashrc"
    victim.write_text("mine")
    (root / f".floor.html.{os.getpid()}.part").symlink_to(victim)
    with atomic_write(root / "floor.html") as unfinished:
        unfinished.write_text("page")
    assert victim.read_text() == "mine"
    assert (root / "floor.html").read_text() == "page"


@pytest.mark.parametrize("length", [str(MOST_BYTES + 1), "9" * 5000, "-1", "x", ""])
def test_the_replaying_endpoint_reads_no_more_than_a_question(length: str) -> None:
    """A length that is absurd, negative or missing is answered at once; nothing is kept of it."""
    with ReplayEndpoint() as endpoint:
        port = int(endpoint.base_url.rpartition(":")[2].partition("/")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=5.0) as peer:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {length}\r\n\r\n"
            peer.sendall(head.encode())
            assert b" 413 " in peer.makefile("rb").readline()
        assert endpoint.requests == []


_ANSWER = {"fault": "hang", "verbs": ["alert"], "rule": "alert", "choice": "alert"}


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        json.dumps({**_ANSWER, "verbs": [["alert"]]}),
        json.dumps({**_ANSWER, "fault": {}}),
        json.dumps({**_ANSWER, "tokens_in": "many"}),
        json.dumps({**_ANSWER, "choice": None}),
        '"\ud800"'.encode("utf-8", "surrogatepass").decode("latin-1"),
    ],
)
def test_recorded_answers_are_checked(tmp_path: Path, text: str) -> None:
    """Whatever a file of answers holds, it ends in answers or in one line."""
    path = tmp_path / "answers.jsonl"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match="line 1 is no recorded answer"):
        read_answers(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match="no plain file"):
        read_answers(path)


@pytest.mark.parametrize("text", ["3", "[]", "{}", '{"case": 1}', "[" * 5000, "\x1b"])
def test_trials_of_a_score_are_checked(tmp_path: Path, text: str) -> None:
    """A damaged file of trials is named."""
    path = tmp_path / "trials.jsonl"
    path.write_text(f"{text}\n")
    with pytest.raises(ValueError, match="damaged"):
        Book(path)
