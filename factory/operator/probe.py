"""Ask a language model about every situation in which the operator would, and say what it costs and chooses.

    python -m factory.operator.probe operator.llm.base_url=URL operator.llm.model=NAME [--out answers.jsonl]

No floor is needed, and nothing is changed. What is recorded, `factory.operator.replay` gives again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from factory import cli, sections
from factory.operator.config import OperatorConfig
from factory.operator.deciders import chat, prompt
from factory.operator.deciders.chat import Reply
from factory.operator.llm_config import LlmConfig
from factory.operator.replay import Recorded, write_answers
from factory.operator.situations import Situation, situations


def ask(config: LlmConfig, one: Situation) -> Reply:
    """Return the checked answer of an endpoint to a situation."""
    body = prompt.request(config, one.finding, one.choices, one.view, rule=one.rule)
    return chat.ask(config, body, prompt.ids(one.choices))


def record(one: Situation, reply: Reply) -> Recorded:
    """Return an answer as the replaying endpoint reads it."""
    return Recorded(
        fault=one.finding.fault,
        verbs=tuple(dict.fromkeys(choice.verb.value for choice in one.choices)),
        rule=one.rule.verb,
        choice=reply.choice.partition(":")[0],
        rationale=reply.rationale,
        tokens_in=reply.tokens_in,
        tokens_out=reply.tokens_out,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask, print a table, and exit with status 1 if no answer could be used."""
    cli.show_warnings()
    top = cli.OneLineParser(prog="python -m factory.operator.probe", description=__doc__)
    top.add_argument("overrides", nargs="+", metavar="operator.llm.key=value")
    top.add_argument("--out", type=Path, metavar="FILE", help="record the answers")
    given = top.parse_args(arguments)
    with cli.one_line_interrupts(), cli.one_line_errors():
        sections.check(given.overrides, ("operator",))
        overrides = ["operator.decider=llm", *given.overrides]
        config = sections.parse(OperatorConfig, "operator", overrides, page="docs/operator.md").llm
        if given.out is not None:
            cli.check_output(str(given.out), key="--out", suffix=given.out.suffix)
        answers = [(one, ask(config, one)) for one in situations()]
        for one, reply in answers:
            print(_row(one, reply))
        usable = [(one, reply) for one, reply in answers if reply.failure is None]
        print(_summary(config, [reply for _, reply in answers], len(usable)))
        if given.out is not None:
            given.out.parent.mkdir(parents=True, exist_ok=True)
            write_answers(given.out, [record(one, reply) for one, reply in usable])
    raise SystemExit(int(not usable))


def _row(one: Situation, reply: Reply) -> str:
    said = reply.failure or f"{reply.choice}: {reply.rationale}"
    return f"{one.finding.fault:<15} {reply.seconds:6.2f} s  rule {one.rule.id:<20} {said}"


def _summary(config: LlmConfig, replies: Sequence[Reply], num_usable: int) -> str:
    tokens_in = sum(reply.tokens_in for reply in replies)
    tokens_out = sum(reply.tokens_out for reply in replies)
    usd = (tokens_in * config.usd_per_mtoken_in + tokens_out * config.usd_per_mtoken_out) / 1e6
    return (
        f"{len(replies)} questions, {num_usable} usable answers; {tokens_in} tokens in, {tokens_out} out,"
        f" {sum(reply.seconds for reply in replies):.1f} s,"
        f" {(tokens_in + tokens_out) * config.joules_per_token:.0f} J (estimated), {usd:.6g} USD"
    )


if __name__ == "__main__":
    main()
