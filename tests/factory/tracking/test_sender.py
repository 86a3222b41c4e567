"""The thread that empties the outbox, against a server made of a list."""

from __future__ import annotations

import json
import logging
import threading
import time
from itertools import takewhile
from pathlib import Path

import pytest

from factory.tracking.outbox import Outbox
from factory.tracking.sender import FREE_UPDATES, RefusedError, Sender
from factory.tracking.updates import Update


class Server:
    """Accept updates one by one, in the state that the test puts it in."""

    def __init__(self) -> None:
        """Start healthy."""
        self.away = False
        self.work_s = 0.0
        self.received: list[int] = []
        self.calls = 0
        self.back = threading.Event()

    def __call__(self, updates: list[Update]) -> int:
        """Receive all updates at the front that are good; a negative number is refused."""
        self.calls += 1
        if self.away:
            raise ConnectionError("no route to host")
        until_s = time.thread_time() + self.work_s
        while time.thread_time() < until_s:
            pass
        if updates[0]["number"] < 0:
            raise RefusedError("negative")
        good = list(takewhile(lambda number: number >= 0, (update["number"] for update in updates)))
        self.received += good
        self.back.set()
        return len(good)


def open_sender(path: Path, server: Server) -> Sender:
    """Return a started sender on an outbox in `path`."""
    sender = Sender(Outbox(path / "pending.jsonl", check=json.loads), server, server="the list")
    sender.start(wait_s=10)
    return sender


def test_everything_arrives_in_order(tmp_path: Path) -> None:
    """After close the server has every update once, in the order in which they were put."""
    server = Server()
    sender = open_sender(tmp_path, server)
    for number in range(150):
        sender.put({"number": number})
    sender.close()
    assert server.received == list(range(150))
    assert not (tmp_path / "pending.jsonl").exists()


def test_costly_server_gets_few_big_batches(tmp_path: Path) -> None:
    """Sending that costs processor time is put off, so that rows gather and go together."""
    server = Server()
    server.work_s = 0.02
    sender = open_sender(tmp_path, server)
    for number in range(60):
        sender.put({"number": number})
        time.sleep(0.002)
    calls_while_running = server.calls
    sender.close()
    assert calls_while_running < 10
    assert server.received == list(range(60))
    assert sender.spent_s >= server.work_s


def test_rows_beyond_the_budget_are_not_afforded(tmp_path: Path) -> None:
    """A short run keeps every row; past that the cost of what waits has to fit 1 % of the elapsed time."""
    sender = Sender(Outbox(tmp_path / "pending.jsonl", check=json.loads), Server(), server="the list")
    for number in range(FREE_UPDATES):
        assert sender.can_afford_one_more()
        sender.put({"number": number})
    assert not sender.can_afford_one_more()


def test_server_away_costs_one_warning_and_no_update(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender warns once when the server goes and once when it is back, and delivers what gathered."""
    monkeypatch.setattr("factory.tracking.sender.LONGEST_BACKOFF_S", 0.1)
    server = Server()
    server.away = True
    sender = open_sender(tmp_path, server)
    with caplog.at_level(logging.WARNING, logger="factory.tracking"):
        for number in range(5):
            sender.put({"number": number})
        while server.calls < 3:  # the first attempt and two more
            time.sleep(0.01)
        server.away = False
        assert server.back.wait(20)
        sender.close()
    assert server.received == list(range(5))
    assert [("is away" in text, "is back" in text) for text in caplog.messages] == [
        (True, False),
        (False, True),
    ]


def test_what_a_dead_server_misses_stays_on_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Closing does not wait for a server that is away; the next sender on the same file delivers."""
    server = Server()
    server.away = True
    sender = open_sender(tmp_path, server)
    sender.put({"number": 1})
    sender.close()
    assert "1 updates wait" in caplog.messages[-1]
    server.away = False
    again = open_sender(tmp_path, server)
    again.close()
    assert server.received == [1]


def test_refused_update_is_dropped_and_the_rest_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An update that can never be accepted does not block the queue, and is told of once."""
    server = Server()
    sender = open_sender(tmp_path, server)
    for number in (1, -1, -2, 2):
        sender.put({"number": number})
    sender.close()
    assert server.received == [1, 2]
    assert sum("refused" in text for text in caplog.messages) == 1


def test_a_file_that_is_lost_ends_no_thread(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The sender says that it cannot go on, and closing does not raise."""
    server = Server()
    server.away = True
    sender = open_sender(tmp_path, server)
    sender.put({"number": 1})
    while "is away" not in caplog.text:
        time.sleep(0.01)
    (tmp_path / "pending.jsonl").unlink()
    sender.close()
    assert "is away" in caplog.text
    assert "updates lost: 1" in caplog.text
