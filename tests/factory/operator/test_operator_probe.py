"""The probe of a language model, and the endpoint that gives recorded answers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from refusals import refused

from factory.operator import probe, replay
from factory.operator.replay import ANSWERS, Recorded, ReplayEndpoint, read_answers, write_answers
from factory.operator.situations import situations
from factory.operator.words import Fault


def test_every_situation_has_one_recorded_answer() -> None:
    """The file of the package answers all questions of the probe, with possible actions, and no other."""
    answers = {one.situation: one for one in read_answers(ANSWERS)}
    asked = set()
    for one in situations():
        verbs = tuple(dict.fromkeys(choice.verb.value for choice in one.choices))
        asked.add((one.finding.fault.value, verbs, one.rule.verb.value))
        assert one.rule in one.choices
    assert asked == set(answers)
    assert all(one.choice in one.verbs for one in answers.values())
    # Faults for which the rule only tells people are no question.
    assert {Fault(one.fault) for one in answers.values()} == {
        Fault.CRASH,
        Fault.HANG,
        Fault.CRAWL,
        Fault.FAIL_SLOW,
        Fault.CONTENTION,
        Fault.MEMORY,
        Fault.DIVERGENCE,
        Fault.DISK,
        Fault.BAD_CHECKPOINT,
    }


def test_the_probe_records_what_the_endpoint_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Replayed answers are recorded as they were; the last line has their price."""
    answers = read_answers(ANSWERS)
    out = tmp_path / "answers.jsonl"
    with ReplayEndpoint(answers) as endpoint, pytest.raises(SystemExit) as caught:
        probe.main(
            [
                f"operator.llm.base_url={endpoint.base_url}",
                "operator.llm.model=small",
                "operator.llm.usd_per_mtoken_in=2",
                "--out",
                str(out),
            ]
        )
    assert caught.value.code == 0
    assert read_answers(out) == answers
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(answers) + 1
    tokens_in = sum(one.tokens_in for one in answers)
    assert f"{len(answers)} questions, {len(answers)} usable answers; {tokens_in} tokens in" in lines[-1]
    assert lines[-1].endswith(f"{tokens_in * 2e-6:.6g} USD")


def test_the_probe_says_that_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """No usable answer is exit status 1; a mistake in the arguments is 2."""
    with ReplayEndpoint() as gone:
        address = f"operator.llm.base_url={gone.base_url}"
    for arguments, status in (([address, "operator.llm.model=m"], 1), ([address], 2), (["seed=1"], 2)):
        with pytest.raises(SystemExit) as caught:
            probe.main(arguments)
        assert caught.value.code == status
    shown = capsys.readouterr()
    assert "0 usable answers" in shown.out
    assert [re.split("[ =]", line)[1] for line in shown.err.splitlines()] == ["operator.llm.model", "seed"]


def test_damaged_recordings_are_refused(tmp_path: Path) -> None:
    """The message names file and line."""
    path = tmp_path / "answers.jsonl"
    one = Recorded(fault="hang", verbs=("alert",), rule="alert", choice="alert")
    write_answers(path, [one])
    assert read_answers(path) == [one]
    for text in ("{", "[]", '{"fault": "hang"}', '{"verbs": [], "unknown": 1}'):
        path.write_text(f"{path.read_text()}{text}\n")
        with pytest.raises(ValueError, match=r"answers\.jsonl: line 2"):
            read_answers(path)
        write_answers(path, [one])


@pytest.mark.parametrize("arguments", ["--port x", "--port -1", "--mode nope", "nowhere.jsonl", "a b"])
def test_mistakes_of_the_replaying_endpoint_are_one_line(arguments: str) -> None:
    """A port, a behaviour or a file that there is not is named, before anything listens."""
    assert arguments.split()[-1] in refused(replay.main, arguments.split())
