"""A language model picks a question like a person, and near words take over whatever it answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from factory.floor.command_line import main
from factory.floor.questions import QUESTIONS
from factory.floor.questions.matching import NearWords
from factory.floor.questions.model import ModelChooser, command
from factory.floor.store import Store
from factory.operator.llm_config import LlmConfig


class Endpoint(BaseHTTPRequestHandler):
    """Answers every request with the same words."""

    words: ClassVar[str] = ""
    requests: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        """Answer as a chat completion."""
        self.requests.append(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"choices": [{"message": {"content": self.words}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Return the address of an endpoint on the loopback interface."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join(60.0)
    server.server_close()


def answered(choice: str) -> str:
    """Return an answer that names a command."""
    return json.dumps({"id": choice, "rationale": "because"})


def test_command_of_the_model_is_checked_like_a_persons(url: str) -> None:
    """Question and parameters are taken over; the request holds the sentence and the questions alone."""
    chooser = ModelChooser(LlmConfig(base_url=url, model="m"), QUESTIONS, NearWords(QUESTIONS))
    Endpoint.words = answered("broke hours=24")
    choice = chooser.choose("anything odd since yesterday?")
    assert (choice.question.name, choice.parameters.hours, choice.by) == ("broke", 24.0, "language model m")
    sent = json.loads(Endpoint.requests[-1])
    assert sent["messages"][1]["content"] == "anything odd since yesterday?"
    assert all(question.text in sent["messages"][0]["content"] for question in QUESTIONS.values())


@pytest.mark.parametrize(
    "words",
    [
        "broke",
        "{}",
        "",
        answered("none"),
        answered("drop table line"),
        answered("broke hours=-1"),
        answered("broke rows=1;DROP"),
        answered("running hours=3"),
        json.dumps({"id": 3, "rationale": "x"}),
    ],
)
def test_near_words_choose_where_the_model_fails(url: str, words: str) -> None:
    """An answer that is no command changes nothing, and the reason is said."""
    Endpoint.words = words
    chooser = ModelChooser(LlmConfig(base_url=url, model="m"), QUESTIONS, NearWords(QUESTIONS))
    choice = chooser.choose("joules per token by task")
    assert (choice.question.name, choice.by) == ("joules_per_token", "near words")
    assert choice.note.startswith("language model: ")


def test_commands_are_names_with_parameters() -> None:
    """What is no such command is a mistake."""
    assert command("history line=3", QUESTIONS).parameters.line == 3
    for text in ("", "history 3", "weather", "broke seconds=1"):
        with pytest.raises(ValueError):
            command(text, QUESTIONS)


def test_settings_of_the_operator_choose_the_model(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without an address nobody is asked; with one the answer names the model."""
    with Store(tmp_path, create=True):
        pass
    Endpoint.words = answered("owners")
    num_requests = len(Endpoint.requests)
    model = ["operator.decider=llm", f"operator.llm.base_url={url}", "operator.llm.model=m"]
    for settings, by in (([], "near words"), (model, "language model m")):
        with pytest.raises(SystemExit) as end:
            main(["ask", "who used most", *settings, "--root", str(tmp_path), "--json"])
        assert end.value.code == 0
        assert json.loads(capsys.readouterr().out)["chosen_by"] == by
    assert len(Endpoint.requests) == num_requests + 1
