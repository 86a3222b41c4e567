"""One question to an endpoint with OpenAI's interface: no redirects, no proxies, no second attempts."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from factory.operator.llm_config import LlmConfig

MOST_BYTES = 64 << 10
"""Longest answer that is read."""
_MOST_LETTERS = 300
"""Longest rationale that is kept."""
_MOST_TOKENS = 1_000_000_000
_TOKEN_BYTES = 4
"""Bytes of a token, where an endpoint does not count."""


class Failure(StrEnum):
    """Reason for which an answer cannot be used."""

    UNREACHABLE = "the endpoint cannot be reached"
    TIMEOUT = "no answer before the deadline"
    STATUS = "the endpoint refuses the question"
    CONTENT_TYPE = "the answer is not declared as JSON"
    TOO_LONG = "the answer is too long"
    CUT = "the answer ends too early"
    NOT_JSON = "the answer is not JSON"
    NOT_A_COMPLETION = "the answer is not a chat completion"
    EMPTY = "the answer is empty"
    PROSE = "the model's words are not JSON"
    SCHEMA = "the model's JSON has other fields than id and rationale"
    UNKNOWN_CANDIDATE = "the model names no candidate"
    LIMIT = "no more questions in this hour"


@dataclass(slots=True, kw_only=True)
class Reply:
    """Result of a question, and its price."""

    choice: str = ""
    """Id of a candidate, or the word for none; empty if there was a failure."""
    rationale: str = ""
    """Words of the model; stored, never interpreted."""
    failure: Failure | None = None
    status: int = 0
    """Status of HTTP; 0 if there was no answer."""
    seconds: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0


class _AnswerError(Exception):
    """An answer that cannot be used."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.value)
        self.failure = failure


def ask(config: LlmConfig, body: bytes, ids: Collection[str]) -> Reply:
    """Send a request, wait for the answer, and return it checked; raises nothing for what an endpoint does.

    Args:
        config: endpoint, key and deadline.
        body: the request.
        ids: choices that are valid.
    """
    started_s = time.monotonic()
    reply = Reply()
    try:
        completion = _object(_post(config, body, reply), Failure.NOT_JSON)
        # Tokens were spent even if the choice turns out to be none.
        _count(completion, reply)
        reply.choice, reply.rationale = _choice(completion, ids)
    except _AnswerError as error:
        reply.failure = error.failure
    reply.seconds = time.monotonic() - started_s
    if reply.failure is not None and reply.seconds >= config.deadline_s:
        # An answer that is hung up on looks cut or empty.
        reply.failure = Failure.TIMEOUT
    return reply


def _post(config: LlmConfig, body: bytes, reply: Reply) -> bytes:
    """Return the body of the answer; its status is put into the reply."""
    parts = urlsplit(config.base_url)
    kind: type[http.client.HTTPConnection] = http.client.HTTPConnection
    if parts.scheme == "https":
        kind = http.client.HTTPSConnection
    headers = {"Content-Type": "application/json", "Accept": "application/json", "Connection": "close"}
    if config.key:
        headers["Authorization"] = f"Bearer {config.key}"
    connection = kind(parts.hostname or "", parts.port, timeout=config.deadline_s)
    due_s = time.monotonic() + config.deadline_s
    try:
        try:
            connection.connect()
        except (OSError, ValueError) as error:
            raise _AnswerError(Failure.UNREACHABLE) from error
        reply.tokens_in = len(body) // _TOKEN_BYTES
        with _hung_up(connection.sock, due_s):
            connection.request("POST", f"{parts.path.rstrip('/')}/chat/completions", body, headers)
            return _read(connection.getresponse(), reply)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _AnswerError(Failure.CUT) from error
    finally:
        connection.close()


def _read(response: http.client.HTTPResponse, reply: Reply) -> bytes:
    reply.status = response.status
    if response.status != http.client.OK:
        # Whoever refuses a question has not thought about it.
        reply.tokens_in = 0
        raise _AnswerError(Failure.STATUS)
    if response.headers.get_content_type() != "application/json":
        raise _AnswerError(Failure.CONTENT_TYPE)
    content = response.read(MOST_BYTES + 1)
    reply.tokens_out = len(content) // _TOKEN_BYTES
    if len(content) > MOST_BYTES:
        raise _AnswerError(Failure.TOO_LONG)
    if response.length:
        raise _AnswerError(Failure.CUT)
    return content


@contextlib.contextmanager
def _hung_up(peer: socket.socket, due_s: float) -> Iterator[None]:
    """Hang up at the deadline; a timeout of the socket begins anew with every byte."""

    def hang_up() -> None:
        with contextlib.suppress(OSError, ValueError):
            peer.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, due_s - time.monotonic()), hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _object(content: bytes | str, failure: Failure) -> dict[str, Any]:
    """Return a JSON object."""
    if not content.strip():
        raise _AnswerError(Failure.EMPTY)
    try:
        plain = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _AnswerError(failure) from error
    if not isinstance(plain, dict):
        raise _AnswerError(failure)
    return plain


def _choice(completion: dict[str, Any], ids: Collection[str]) -> tuple[str, str]:
    """Return the chosen id and the rationale."""
    try:
        words = completion["choices"][0]["message"]["content"]
    except (LookupError, TypeError) as error:
        raise _AnswerError(Failure.NOT_A_COMPLETION) from error
    if words is None:
        raise _AnswerError(Failure.EMPTY)
    if not isinstance(words, str):
        raise _AnswerError(Failure.NOT_A_COMPLETION)
    answer = _object(words, Failure.PROSE)
    if set(answer) != {"id", "rationale"} or not all(isinstance(value, str) for value in answer.values()):
        raise _AnswerError(Failure.SCHEMA)
    if answer["id"] not in ids:
        raise _AnswerError(Failure.UNKNOWN_CANDIDATE)
    return answer["id"], clean(answer["rationale"])


def clean(words: str) -> str:
    """Return words in one short line, without letters that steer a terminal or that no database keeps."""
    kept = "".join(letter if letter.isprintable() else " " for letter in words[:_MOST_LETTERS])
    return " ".join(kept.split())


def _count(completion: dict[str, Any], reply: Reply) -> None:
    """Take over the tokens that the endpoint has counted, if it has."""
    usage = completion.get("usage")
    if not isinstance(usage, dict):
        return
    counts: list[Any] = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
    if all(type(count) is int and 0 <= count <= _MOST_TOKENS for count in counts):
        reply.tokens_in = counts[0]
        reply.tokens_out = counts[1]
