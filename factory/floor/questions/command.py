"""`floor ask`: a sentence, the question that it means, the query, and the answer."""

from __future__ import annotations

import argparse
import re
import sys
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from factory import sections
from factory.floor.questions import QUESTIONS
from factory.floor.questions.answer import Answer, answer, reading
from factory.floor.questions.matching import Choice, Chooser, NearWords
from factory.floor.questions.model import ModelChooser
from factory.floor.questions.question import Parameters, changed, taken
from factory.operator.config import OperatorConfig
from factory.runtime import strict_json
from factory.runtime.stored_files import visible

_TIMES = ("since", "now")
_LONGEST_S = 120.0
"""Longest time for an answer."""
_ENERGY = re.compile("joule|watt|_w$|_j$|usd|gco2e")
"""Columns with values that may be estimated; their tier is printed below the answer."""


def ask(given: argparse.Namespace) -> int:
    """Answer a question, or list the questions."""
    if not given.overrides:
        _list(is_json=given.json)
        return 0
    # A sentence in quotes is one argument.
    words = " ".join(given.overrides).split()
    settings = [word for word in words if word.startswith("operator.")]
    choice = choose([word for word in words if word not in settings], chooser(settings))
    if choice.note:
        print(choice.note, file=sys.stderr)
    with reading(given.root, limit_s=_LONGEST_S) as connection:
        found = answer(connection, choice, now=time.time())
    if given.json:
        plain = asdict(found) | {"chosen_by": choice.by}
        plain["rows"] = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
        print(strict_json.dumps(plain))
    else:
        _print(found, by=choice.by)
    return 0


def chooser(settings: list[str]) -> Chooser:
    """Return near words, and a language model before them if `operator.*` settings name one."""
    near = NearWords(QUESTIONS)
    config = sections.parse(OperatorConfig, "operator", settings, page="docs/operator.md")
    if not config.llm.base_url:
        return near
    return ModelChooser(config.llm, QUESTIONS, near)


def choose(words: list[str], chooser: Chooser) -> Choice:
    """Return the question that words mean; `key=value` among them sets a parameter.

    Raises:
        ValueError: no question fits, or a parameter is wrong.
    """
    settings = dict(word.split("=", 1) for word in words if "=" in word)
    # They are checked first, as the mistake that is easier to mend.
    changed(Parameters(), settings)
    choice = chooser.choose(" ".join(word for word in words if "=" not in word))
    return replace(choice, parameters=taken(choice.question, choice.parameters, settings))


def _list(*, is_json: bool) -> None:
    defaults = asdict(Parameters())
    plain: list[dict[str, Any]] = [
        {"name": one.name, "text": one.text, "parameters": {key: defaults[key] for key in one.parameters}}
        for one in QUESTIONS.values()
    ]
    if is_json:
        print(strict_json.dumps(plain))
        return
    for one in plain:
        keys = " ".join(f"{key}={_text(value) or 'ID'}" for key, value in one["parameters"].items())
        print(f"{one['name']:<17} {one['text']:<71} {keys}")


def _print(found: Answer, *, by: str) -> None:
    print(f"{found.text}  ({found.question}, chosen by {by})\n\n{found.query}")
    for name, value in found.bindings.items():
        remark = ""
        if name in _TIMES:
            remark = f"  -- {datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M:%S} UTC"
        print(f":{name} = {value}{remark}")
    print()
    if not found.rows:
        print(found.note or "nothing")
        return
    cells = [found.columns, *([_text(value) for value in row] for row in found.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    if any(_ENERGY.search(column) for column in found.columns):
        print(f"\njoules, watts and values derived from them: {found.tier}")


def _text(value: object) -> str:
    """Return a cell; control characters of a terminal are shown, not sent."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return visible(" ".join(str(value).split()))
