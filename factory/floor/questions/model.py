"""A language model picks the question, as a person does at the command line; it sees nothing of the floor.

Its answer is a name and parameters, such as `broke hours=24`, and is checked like a person's. Whatever goes
wrong, near words choose instead.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, replace

from factory.floor.questions.matching import Choice, Chooser
from factory.floor.questions.question import Parameters, Question, taken
from factory.operator.deciders import chat
from factory.operator.llm_config import LlmConfig

_NONE = "none"
"""Answer that leaves the choice to near words."""
_LONGEST_TEXT = 500
_SYSTEM = (
    "Translate an engineer's question about a floor of training jobs, called lines, into one of the commands"
    ' below, with parameters where the question names them, such as "broke hours=24". Answer with JSON only:'
    ' {"id": the command, "rationale": one short sentence}. If no command fits, the id is "none".'
)


class _Commands(Collection[str]):
    """The answers that are valid: `none`, and what a person may write."""

    def __init__(self, questions: Mapping[str, Question]) -> None:
        self._questions = questions

    def __contains__(self, text: object) -> bool:
        if text == _NONE:
            return True
        try:
            command(str(text), self._questions)
        except ValueError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return iter([*self._questions, _NONE])

    def __len__(self) -> int:
        return len(self._questions) + 1


class ModelChooser:
    """Asks an endpoint with OpenAI's interface."""

    def __init__(self, config: LlmConfig, questions: Mapping[str, Question], fallback: Chooser) -> None:
        """Use an endpoint; `fallback` chooses where it fails."""
        self._config = config
        self._questions = questions
        self._fallback = fallback

    def choose(self, text: str) -> Choice:
        """Return the question that the model names, else that of the fallback."""
        # The set of valid answers checks the reply, so a name that the model made up counts as a failure.
        reply = chat.ask(self._config, self._request(text), _Commands(self._questions))
        if reply.failure is not None:
            return replace(self._fallback.choose(text), note=f"language model: {reply.failure}")
        if reply.choice == _NONE:
            return replace(self._fallback.choose(text), note="language model: no question fits")
        cost = f"language model: {reply.tokens_in} tokens in, {reply.tokens_out} out, {reply.seconds:.1f} s"
        chosen = command(reply.choice, self._questions)
        return replace(chosen, by=f"language model {self._config.model}", note=cost)

    def _request(self, text: str) -> bytes:
        defaults = asdict(Parameters())
        known = [
            {
                "command": one.name,
                "question": one.text,
                "parameters": {key: defaults[key] for key in one.parameters},
            }
            for one in self._questions.values()
        ]
        content = {
            "model": self._config.model,
            "messages": [
                {"role": "system", "content": f"{_SYSTEM}\n{json.dumps(known)}"},
                {"role": "user", "content": text[:_LONGEST_TEXT]},
            ],
            "temperature": 0,
            "max_tokens": self._config.max_tokens,
        }
        return json.dumps(content).encode()


def command(text: str, questions: Mapping[str, Question]) -> Choice:
    """Return the question of a command such as `broke hours=24`.

    Raises:
        ValueError: there is no such question, or a parameter is wrong.
    """
    name, *settings = text.split() or [""]
    if name not in questions or not all("=" in setting for setting in settings):
        raise ValueError(f"ask={text[:80]}: no such question; `ask` without words lists all")
    given = dict(setting.split("=", 1) for setting in settings)
    question = questions[name]
    return Choice(question=question, parameters=taken(question, Parameters(), given))
