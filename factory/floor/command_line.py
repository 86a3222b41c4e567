"""Commands of the floor and their arguments; a mistake ends in one line and exit status 2."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.errors import HydraException

from factory import cli
from factory.floor import budget_commands, commands, logs, profile_command
from factory.floor.demo import demo
from factory.floor.engines import ENGINES
from factory.floor.questions import command as question_command
from factory.floor.sweeps import command as sweep_commands
from factory.floor.sweeps.methods import METHODS
from factory.grid import command as grid_command
from factory.operator import command as operator_command
from factory.operator.scoring import USAGE as SCORE_KEYS
from factory.operator.words import Mode
from factory.reporting.stream import escaped_stdout, steady_stdout

DEFAULT_ROOT = "outputs/floor"
_EXAMPLES = """examples:
  python -m factory.floor submit task=cartpole_swingup seed=0,1,2 --flex 3
  python -m factory.floor submit experiment=smoke --priority 5
  python -m factory.floor sweep asha task=cartpole_swingup 'learner.learning_rate=1e-4,1e-3,1e-2'
  python -m factory.floor run --watts 60
  python -m factory.floor status --watch
  python -m factory.floor why 2
  python -m factory.floor ask "which lines were pre-empted in the last 2 hours"
"""


_Add = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]
"""Adds a command: its name, its action and its help."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = cli.OneLineParser(
        prog="python -m factory.floor",
        description="Run many training jobs under one power budget.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = cli.OneLineParser(add_help=False)
    common.add_argument(
        "--root", type=Path, default=Path(DEFAULT_ROOT), metavar="DIR", help="folder of the floor"
    )
    groups = top.add_subparsers(dest="command", metavar="command", parser_class=cli.OneLineParser)

    def add(name: str, action: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = groups.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", parents=[common]
        )
        added.set_defaults(action=action)
        return added

    _add_queueing(add)
    _add_running(add)
    _add_lines(add)
    add("drain", commands.drain, "start no more lines, and end the floor when the running ones have ended")
    _add_budget(add, common)
    _add_grid(add, common)
    _add_operator(add)
    _add_looking_back(add)
    return top


def _add_queueing(add: _Add) -> None:
    """Add the commands that queue lines."""
    submit = add("submit", commands.submit, "queue training jobs")
    submit.add_argument(
        "overrides", nargs="*", metavar="key=value", help="arguments of factory.train; sweeps too"
    )
    _add_order(submit)
    submit.add_argument("--again", action="store_true", help="queue it even if an identical line is there")

    sweep = add(
        "sweep",
        sweep_commands.sweep,
        "search for the best settings, show the progress of a search, or cancel it",
    )
    sweep.add_argument("what", choices=(*METHODS, "status", "cancel"), help="method, status or cancel")
    sweep.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="arguments of factory.train, some with ranges; or number of a sweep",
    )
    _add_order(sweep)
    sweep.add_argument("--json", action="store_true", help="print JSON (status)")


def _add_running(add: _Add) -> None:
    """Add the commands that run the floor, and show it."""
    run = add("run", commands.run, "run the lines of the floor until all have ended")
    run.add_argument("--watts", metavar="N", help="power limit of the site [W]")
    run.add_argument("--cores", type=float, metavar="N", help="CPUs that lines may occupy together")
    run.add_argument("--engine", choices=sorted(ENGINES), default="local", help="where lines run")
    run.add_argument("--address", metavar="HOST:PORT", help="Ray cluster that lines run on")
    run.add_argument("--profile", default="", metavar="NAME", help="power profile of lines that name none")
    run.add_argument(
        "--operator", choices=[mode.value for mode in Mode], default="suggest", help="freedom of the operator"
    )
    run.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings: floor.<key> and operator.<key>"
    )
    run.add_argument("--tick", type=float, default=1.0, metavar="S", help=argparse.SUPPRESS)
    run.add_argument("--forever", action="store_true", help="wait for more lines when all have ended")

    status = add("status", commands.status, "show lines, power and energy")
    status.add_argument("--json", action="store_true", help="print JSON")
    status.add_argument("--watch", action="store_true", help="show it again every second until Ctrl-C")


def _add_lines(add: _Add) -> None:
    """Add the commands about one line."""
    for name, action, text in (
        ("why", commands.why, "explain why a line is waiting, or how it ended"),
        ("logs", logs.logs, "print the output of a line's newest attempt"),
        ("pause", commands.order, "pause a line until it is resumed"),
        ("resume", commands.order, "resume a paused line"),
        ("preempt", commands.order, "end a line with a checkpoint and queue it again"),
        ("cancel", commands.order, "end a line with a checkpoint for good"),
        ("priority", commands.order, "change the priority of a line"),
    ):
        added = add(name, action, text)
        added.add_argument("line", type=int, metavar="ID")
        if name == "priority":
            added.add_argument("priority", type=int, metavar="N")
        if name == "logs":
            added.add_argument("--raw", action="store_true", help="send control characters to a terminal")
        if name == "why":
            added.add_argument("--json", action="store_true", help="print JSON")


def _add_operator(add: _Add) -> None:
    """Add the commands about the operator."""
    shown = add(
        "operator", operator_command.show, "show findings and decisions, or close the circuit breaker"
    )
    shown.add_argument("what", nargs="?", choices=("list", "reset"), default="list", metavar="list|reset")
    shown.add_argument("--json", action="store_true", help="print JSON (list)")
    scored = add("score", _score, "inject faults into tiny lines, and score the operator")
    scored.add_argument("overrides", nargs="*", metavar="key=value", help="see below")
    scored.epilog = SCORE_KEYS
    scored.formatter_class = argparse.RawDescriptionHelpFormatter
    approved = add("approve", operator_command.approve, "approve a proposal of the operator")
    approved.add_argument("decision", type=int, metavar="ID")


def _score(given: argparse.Namespace) -> int:
    """Score the operator; imported here, as no other command needs it."""
    from factory.operator.scoring import command as score_command

    return score_command.score(given)


def _add_budget(add: _Add, common: cli.OneLineParser) -> None:
    """Add the commands about the power budget; `common` has the arguments of all commands."""
    budget = add("budget", budget_commands.show, "set or list the power budget")
    parts = budget.add_subparsers(dest="part", metavar="set|list|import", parser_class=cli.OneLineParser)
    target = parts.add_parser("set", parents=[common], help="set a target, from now on or for a time")
    target.add_argument("watts", metavar="WATTS", help="power [W], or none to lift earlier targets")
    target.add_argument(
        "--for", dest="duration", metavar="TIME", help="such as 3h, 90m or 45s; else without end"
    )
    target.add_argument("--at", metavar="TIME", help="UTC, such as 14:00 or 2026-11-26T14:00Z; else now")
    target.set_defaults(action=budget_commands.set_target)
    parts.add_parser("list", parents=[common], help="show limits, schedule and targets")
    schedule = parts.add_parser("import", parents=[common], help="take a schedule from a CSV file")
    schedule.add_argument("file", type=Path, metavar="FILE", help="CSV with the columns time_utc,budget_w")
    schedule.set_defaults(action=budget_commands.import_schedule)


def _add_grid(add: _Add, common: cli.OneLineParser) -> None:
    """Add the commands about messages and signals of the grid."""
    grid = add("grid", grid_command.show, "take load targets, prices and carbon intensities of the grid")
    parts = grid.add_subparsers(
        dest="part", metavar="list|import|rule|feed|costs|listen|outbox", parser_class=cli.OneLineParser
    )
    parts.add_parser("list", parents=[common], help="show signals, rule and feed")
    taken = parts.add_parser("import", parents=[common], help="take a file with targets or a signal")
    taken.add_argument("file", type=Path, metavar="FILE", help="JSON or CSV, see docs/grid.md")
    taken.add_argument("--forecast", action="store_true", help="the values of the table are forecasts")
    taken.set_defaults(action=grid_command.import_file)
    rule = parts.add_parser("rule", parents=[common], help="run background lines in cheap or clean hours")
    rule.add_argument("--below-price", metavar="N", help="price [USD/kWh], or none")
    rule.add_argument("--below-carbon", metavar="N", help="carbon intensity [gCO2e/kWh], or none")
    rule.add_argument("--carbon", choices=("average", "marginal"), help="signal of --below-carbon")
    rule.add_argument("--flex", type=int, metavar="1..3", help="least flex of a background line (3)")
    rule.set_defaults(action=grid_command.set_rule)
    feed = parts.add_parser("feed", parents=[common], help="name the feed of this floor, and its PUE")
    feed.add_argument("name", nargs="?", metavar="NAME")
    feed.add_argument("--pue", type=float, metavar="N", help="facility power over IT power")
    feed.set_defaults(action=grid_command.set_feed)
    costs = parts.add_parser("costs", parents=[common], help="show money and carbon of the lines")
    costs.add_argument("--json", action="store_true", help="print JSON")
    costs.add_argument("--log", action="store_true", help="log them to the lines' runs in MLflow, too")
    costs.add_argument("--uri", default="", metavar="URI", help="store of these runs; else the floor's own")
    costs.set_defaults(action=grid_command.show_costs)
    listen = parts.add_parser("listen", parents=[common], help="take messages on the loopback interface")
    listen.add_argument("--port", type=int, default=8790, metavar="N", help="port; 0 takes a free one")
    listen.set_defaults(action=grid_command.listen)
    outbox = parts.add_parser("outbox", parents=[common], help="print the messages for the grid")
    outbox.set_defaults(action=grid_command.outbox)


def _add_looking_back(add: _Add) -> None:
    """Add reports, profiles, the demonstration and the audit."""
    report = add("report", commands.report, "print output, energy, waste and downtime")
    report.add_argument("--shift", metavar="TIME", help="such as 8h; else since the floor was made")
    report.add_argument("--json", action="store_true", help="print JSON")

    asked = add("ask", question_command.ask, "answer a question about the floor, or list the questions")
    asked.add_argument("overrides", nargs="*", metavar="WORD", help="words of a question, and key=value")
    asked.add_argument("--json", action="store_true", help="print JSON")

    profile = add("profile", profile_command.profile, "list the power profiles, or calibrate them here")
    profile_command.add_arguments(profile)

    add("demo", demo, "show five small lines, a budget that halves and returns, and one kill")

    audit = add("audit", commands.audit, "check that no event of the floor was changed")
    audit.add_argument("what", choices=("verify",), metavar="verify")


def _add_order(command: argparse.ArgumentParser) -> None:
    """Add the options of commands that queue lines."""
    command.add_argument("--priority", type=int, default=0, metavar="N", help="greater numbers first")
    command.add_argument(
        "--flex", type=int, default=1, metavar="0..3", help="slowdown it tolerates: 0 none, 3 any"
    )
    command.add_argument("--deadline", metavar="TIME", help="UTC time, such as 2026-11-26T14:00Z")
    command.add_argument("--owner", default="", metavar="NAME")
    command.add_argument("--name", default="", metavar="NAME")
    command.add_argument("--cores", type=float, default=1.0, metavar="N", help="CPUs each line may use")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status."""
    cli.show_warnings()
    with cli.one_line_interrupts(), cli.one_line_errors():
        given = list(sys.argv[1:] if arguments is None else arguments)
        if cli.prints_version():
            return
        namespace = parse(given)
        if not namespace.command:
            parser().print_help()
            raise SystemExit(2)
        cli.check_folder_name(namespace.root, key="--root")
        try:
            with steady_stdout(), escaped_stdout():
                status = namespace.action(namespace)
        except HydraException:
            # An option that is not there is a mistake, although Hydra calls it an error of the system.
            raise
        except OSError as error:
            cli.fail(error, status=1)
        raise SystemExit(status)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the arguments of a command; overrides and options may stand in any order.

    Raises:
        SystemExit: an argument is wrong; one line says which.
    """
    top = parser()
    namespace, rest = top.parse_known_args(arguments)
    if rest and not namespace.command:
        top.error(f"{rest[0]}: name a command before it")
    options = [argument for argument in rest if argument.startswith("-")]
    if options or (rest and "overrides" not in namespace):
        top.error(f"{(options or rest)[0]}: no such argument of {namespace.command}")
    if rest:
        # The parser takes values in one row only.
        namespace.overrides += rest
    return namespace
