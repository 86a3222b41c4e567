"""An endpoint on the loopback interface that gives recorded answers, or fails in a chosen way.

It stands in for a language model in tests and in the scored table:

    python -m factory.operator.replay [answers.jsonl] [--mode MODE] [--port N]

An answer is recorded for a situation: the fault, the actions that are possible, and the rule's choice.
Line numbers are not part of it, so an answer serves every floor. The answers beside this file were written by
hand, with tokens at four bytes each; `factory.operator.probe` records those of a model.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from factory import cli
from factory.operator.deciders.chat import MOST_BYTES
from factory.operator.deciders.prompt import ABSTAIN
from factory.runtime import stored_files
from factory.runtime.plain_types import check_mapping, conforms

HOST = "127.0.0.1"
ANSWERS = Path(__file__).with_name("answers.jsonl")
_TIMEOUT_S = 10.0
_MOST_ANSWERS_BYTES = 8 << 20
_MOST_REQUESTS = 10_000
"""Requests that are kept; the oldest make room."""
_MOST_DIGITS = 9
_DRIP_S = 0.02
"""Time between two pieces of an answer without end."""


class ReplayMode(StrEnum):
    """Behaviour of the endpoint."""

    OK = "ok"
    SLOW = "slow"
    """Say nothing until the asker hangs up."""
    STATUS_500 = "status_500"
    STATUS_429 = "status_429"
    REDIRECT = "redirect"
    CLOSED = "closed"
    """Hang up without an answer."""
    CUT = "cut"
    """Promise more bytes than there are."""
    ENDLESS = "endless"
    """Send small pieces for ever."""
    TOO_LONG = "too_long"
    WRONG_TYPE = "wrong_type"
    NO_BODY = "no_body"
    GARBAGE = "garbage"
    """Send something that is no JSON."""
    NESTED = "nested"
    """Send JSON that is nested too deeply to be read."""
    NO_CHOICES = "no_choices"
    """Send JSON that is no chat completion."""
    EMPTY = "empty"
    """Let the model say nothing."""
    PROSE = "prose"
    """Let the model answer in words."""
    OTHER_FIELDS = "other_fields"
    """Let the model answer with JSON of another form."""
    UNKNOWN_ID = "unknown_id"
    """Let the model choose what is no candidate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An answer to a situation."""

    fault: str
    verbs: tuple[str, ...]
    """Actions that were possible, in their order, each once."""
    rule: str
    """Action of the rule."""
    choice: str
    """Action that was chosen, or `abstain`; the first candidate with it is meant."""
    rationale: str = ""
    tokens_in: int = 0
    tokens_out: int = 0

    @property
    def situation(self) -> tuple[str, tuple[str, ...], str]:
        """Return what the answer is found by."""
        return self.fault, self.verbs, self.rule


def situation(question: Mapping[str, Any]) -> tuple[str, tuple[str, ...], str]:
    """Return the situation that a question describes."""
    verbs = dict.fromkeys(one["id"].partition(":")[0] for one in question["candidates"])
    return question["finding"]["fault"], tuple(verbs), question["chosen_by_rule"].partition(":")[0]


def read_answers(path: Path) -> list[Recorded]:
    """Return the answers of a file with one JSON object a line.

    Raises:
        ValueError: the file cannot be read, or a line is not an answer.
    """
    try:
        content = stored_files.read_bytes(path, limit=_MOST_ANSWERS_BYTES)
    except ValueError as error:
        raise ValueError(f"answers={path}: {error}; give a file that `probe --out` has written") from error
    found: list[Recorded] = []
    for number, text in enumerate(content.splitlines(), 1):
        try:
            found.append(_recorded(stored_files.parse_json(text, name=path.name)))
        except (ValueError, TypeError) as error:
            raise ValueError(f"answers={path}: line {number} is no recorded answer ({error})") from error
    return found


def _recorded(plain: Any) -> Recorded:
    """Return an answer from plain values."""
    if not isinstance(plain, dict) or not conforms(plain.get("verbs"), list[str]):
        raise ValueError("verbs: no list of actions")
    optional = ("verbs", "rationale", "tokens_in", "tokens_out")
    check_mapping({**plain, "verbs": ()}, Recorded, name="answer", optional=optional)
    return Recorded(**plain | {"verbs": tuple(plain["verbs"])})


def write_answers(path: Path, answers: list[Recorded]) -> None:
    """Write answers, one JSON object a line."""
    path.write_text("".join(json.dumps(asdict(one)) + "\n" for one in answers), encoding="utf-8")


class ReplayEndpoint:
    """A server in a thread of its own; `with` starts and stops it."""

    def __init__(
        self, answers: list[Recorded] | None = None, *, mode: ReplayMode = ReplayMode.OK, port: int = 0
    ) -> None:
        """Listen on a port of the loopback interface; 0 takes a free one.

        Raises:
            OSError: the port is taken.
        """
        self._server = _Server(answers or [], mode, port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def base_url(self) -> str:
        """Return the value for `operator.llm.base_url`."""
        return f"http://{HOST}:{self._server.server_port}/v1"

    @property
    def mode(self) -> ReplayMode:
        """Return the behaviour; it may be changed at any time."""
        return self._server.mode

    @mode.setter
    def mode(self, mode: ReplayMode) -> None:
        self._server.mode = mode

    @property
    def requests(self) -> list[bytes]:
        """Return the requests so far, headers and all."""
        return self._server.requests

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop, and let go of everybody who waits for an answer."""
        self._server.is_over.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answers: list[Recorded], mode: ReplayMode, port: int) -> None:
        self.answers = {one.situation: one for one in answers}
        self.mode = mode
        self.requests: list[bytes] = []
        self.is_over = threading.Event()
        super().__init__((HOST, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet: askers hang up at their deadline."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _TIMEOUT_S

    def do_POST(self) -> None:
        """Answer a question, or fail."""
        length = self.headers.get("Content-Length", "")
        # Every user of the machine can reach it, so it reads no more than a question has.
        if not length.isdecimal() or len(length) > _MOST_DIGITS or int(length) > MOST_BYTES:
            self.send(b'{"error": "a question has at most 64 KiB, and names its length"}', status=413)
            return
        body = self.rfile.read(int(length))
        self.server.requests.append(f"{self.requestline}\n{self.headers}".encode() + body)
        del self.server.requests[:-_MOST_REQUESTS]
        if self.path != "/v1/chat/completions":
            self.send(b"{}", status=404)
            return
        _MODES[self.server.mode](self, json.loads(body))

    def send(
        self, body: bytes, *, status: int = 200, kind: str = "application/json", length: int | None = None
    ) -> None:
        """Send an answer; `length` is the number of bytes that it claims to have."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        if status == 302:
            self.send_header("Location", "/v1/elsewhere")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def replay(self, request: Mapping[str, Any]) -> None:
        """Send the recorded answer; 404 if there is none."""
        question = json.loads(request["messages"][1]["content"])
        found = self.server.answers.get(situation(question))
        if found is None:
            self.send(b'{"error": "no answer is recorded for this situation"}', status=404)
            return
        numbers = [one["id"] for one in question["candidates"] if one["id"].startswith(f"{found.choice}:")]
        choice = json.dumps({"id": [*numbers, ABSTAIN][0], "rationale": found.rationale})
        self.send(completion(choice, tokens_in=found.tokens_in, tokens_out=found.tokens_out))

    def drip(self) -> None:
        """Send an answer that has no end."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        while not self.server.is_over.wait(_DRIP_S):
            self.wfile.write(b" ")

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


def completion(content: str | None, *, tokens_in: int = 0, tokens_out: int = 0) -> bytes:
    """Return a chat completion."""
    plain: dict[str, Any] = {
        "object": "chat.completion",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        ],
        "usage": {
            "prompt_tokens": tokens_in,
            "completion_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
        },
    }
    return json.dumps(plain).encode()


def _words(content: str | None) -> Callable[[_Handler, Mapping[str, Any]], None]:
    """Return a behaviour in which the model always says the same."""
    return lambda handler, request: handler.send(completion(content, tokens_in=400, tokens_out=40))


_MODES: dict[ReplayMode, Callable[[_Handler, Mapping[str, Any]], Any]] = {
    ReplayMode.OK: _Handler.replay,
    ReplayMode.SLOW: lambda handler, request: handler.server.is_over.wait(),
    ReplayMode.STATUS_500: lambda handler, request: handler.send(b'{"error": "overloaded"}', status=500),
    ReplayMode.STATUS_429: lambda handler, request: handler.send(b'{"error": "too many"}', status=429),
    ReplayMode.REDIRECT: lambda handler, request: handler.send(b"{}", status=302),
    ReplayMode.CLOSED: lambda handler, request: None,
    ReplayMode.CUT: lambda handler, request: handler.send(completion("")[:40], length=4000),
    ReplayMode.ENDLESS: lambda handler, request: handler.drip(),
    ReplayMode.TOO_LONG: lambda handler, request: handler.send(completion(" " * MOST_BYTES)),
    ReplayMode.WRONG_TYPE: lambda handler, request: handler.send(completion("{}"), kind="text/html"),
    ReplayMode.NO_BODY: lambda handler, request: handler.send(b""),
    ReplayMode.GARBAGE: lambda handler, request: handler.send(b'{"choices": [{"messa'),
    ReplayMode.NESTED: lambda handler, request: handler.send(b"[" * (MOST_BYTES - 1)),
    ReplayMode.NO_CHOICES: lambda handler, request: handler.send(b'{"object": "list", "data": []}'),
    ReplayMode.EMPTY: _words(None),
    ReplayMode.PROSE: _words("I would hold line 1, since it is the most flexible one."),
    ReplayMode.OTHER_FIELDS: _words('{"action": "cancel", "line": 1}'),
    ReplayMode.UNKNOWN_ID: _words('{"id": "stop_all:floor", "rationale": "to be safe"}'),
}


def main() -> None:
    """Serve until Ctrl-C."""
    top = cli.OneLineParser(prog="python -m factory.operator.replay", description=__doc__)
    top.add_argument(
        "answers", nargs="?", type=Path, default=ANSWERS, help="recorded answers, one JSON object a line"
    )
    top.add_argument("--mode", choices=list(ReplayMode), type=ReplayMode, default=ReplayMode.OK)
    top.add_argument("--port", type=int, default=0)
    given = top.parse_args()
    if not 0 <= given.port < 65536:
        top.error(f"--port={given.port}: must be in [0, 65535]")
    with cli.one_line_errors(), cli.one_line_interrupts():
        answers = read_answers(given.answers)
        with ReplayEndpoint(answers, mode=given.mode, port=given.port) as endpoint:
            print(f"operator.llm.base_url={endpoint.base_url}", flush=True)
            threading.Event().wait()


if __name__ == "__main__":
    main()
