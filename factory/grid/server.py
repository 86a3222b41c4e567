"""An endpoint on the loopback interface that takes messages of the grid: `POST /events`.

Nothing but this machine can reach it, and a page in a browser of this machine cannot use it: requests have to
name the loopback host, carry the content type of a CloudEvent, and have no origin.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from factory.floor.store import Store
from factory.grid import intake
from factory.grid.messages import LARGEST_EVENT_BYTES
from factory.runtime.stored_files import visible

HOST = "127.0.0.1"
CONTENT_TYPES = ("application/cloudevents+json", "application/json")
_TIMEOUT_S = 10.0
"""Longest time for a request, however its bytes come [s]."""
_MOST_CONNECTIONS = 32
"""Requests at the same time; further ones are turned away."""
_MOST_DIGITS = 9
"""Digits of a length; Python refuses to read numbers of thousands of digits."""


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: GridServer
    timeout = _TIMEOUT_S
    server_version = "robot-factory"
    sys_version = ""

    def do_POST(self) -> None:
        """Take a message."""
        refusal = self._refusal()
        if refusal is not None:
            self._answer(*refusal)
            return
        content = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            with Store(self.server.root) as store:
                outcome = intake.take_bytes(store, content, now=time.time())
        except ValueError as error:
            self._answer(400, visible(str(error)))
        except OSError as error:
            # The sender may try again; the message was not taken.
            self._answer(503, visible(str(error)))
        else:
            self._answer(202, outcome)

    def do_GET(self) -> None:
        """Answer that only POST is supported."""
        self._answer(405, "send load targets by POST /events")

    def _refusal(self) -> tuple[int, str] | None:
        """Return status and reason for which a request is not read; None if it is."""
        # Against pages that a browser of this machine shows: their requests name their own host or origin.
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if host not in (HOST, "localhost") or self.headers.get("Origin") is not None:
            return 403, "only programs of this machine may send messages"
        if self.path != "/events":
            return 404, "send load targets by POST /events"
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip()
        if kind not in CONTENT_TYPES:
            return 415, f"send {CONTENT_TYPES[0]}"
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            return 411, "name the length of the message"
        # Checked before anything is read.
        if len(length) > _MOST_DIGITS or int(length) > LARGEST_EVENT_BYTES:
            return 413, "a message has at most 1 MiB"
        return None

    def _answer(self, status: int, text: str) -> None:
        body = json.dumps({"outcome": text}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        # What was not read of a request would be taken for the next one.
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet; the floor's chain of events has what was taken."""


class GridServer(ThreadingHTTPServer):
    """Serves one floor."""

    daemon_threads = True

    def __init__(self, root: Path, port: int) -> None:
        """Listen on a port of the loopback interface; 0 takes a free one.

        Raises:
            OSError: The port is taken.
        """
        self.root = root
        self._begun_s: dict[socket.socket, float] = {}
        """Monotonic time at which each open connection began."""
        super().__init__((HOST, port), _Handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Turn a connection away while there are too many."""
        return len(self._begun_s) < _MOST_CONNECTIONS

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a request in a thread of its own."""
        self._begun_s[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self._begun_s.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End requests that take too long; a byte now and then would keep a thread for ever."""
        for request, begun_s in list(self._begun_s.items()):
            if time.monotonic() - begun_s > _TIMEOUT_S:
                with contextlib.suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that broke, and one line of anything else."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            print(visible(f"grid listen: {type(error).__name__}: {error}"), file=sys.stderr, flush=True)
