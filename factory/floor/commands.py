"""Actions of the floor's commands; each takes the arguments and returns the exit status."""

from __future__ import annotations

import argparse
import sys
import time
from math import inf
from pathlib import Path

from factory import cli, options, sections
from factory.floor import floor_lock, status_view, submission
from factory.floor.answers import answer
from factory.floor.budget_input import parse_duration, parse_time, parse_watts
from factory.floor.engines import ENGINES
from factory.floor.history import shift_report
from factory.floor.lines import ACTIVE
from factory.floor.page import write_page
from factory.floor.plan import Settings
from factory.floor.report_view import print_report
from factory.floor.rules import Rules
from factory.floor.runner import run_floor
from factory.floor.store import Store
from factory.floor.submission import Order
from factory.floor.sweeps import table, view
from factory.grid import watcher as grid_watcher
from factory.operator import command as operator_command
from factory.operator.config import OperatorConfig
from factory.operator.words import Mode
from factory.runtime import strict_json
from factory.validation import require


def submit(given: argparse.Namespace) -> int:
    """Queue a line for each job, and print their ids."""
    if not given.overrides:
        raise ValueError("submit: give arguments of factory.train, such as task=cartpole_swingup seed=0,1,2")
    order = order_of(given)
    # All mistakes are found before a store is created.
    cli.check_writable(given.root, key="--root")
    lines = submission.prepare(given.overrides, order, root=given.root, cwd=Path.cwd())
    with Store(given.root, create=True) as store:
        submitted = submission.queue(store, lines, is_again=given.again)
    for one in submitted:
        print(one.line.id)
    known = [str(one.line.id) for one in submitted if not one.is_new]
    if known:
        shown = ", ".join(known[:5]) + (", ..." if len(known) > 5 else "")
        print(f"already on the floor: {shown}; --again queues them once more", file=sys.stderr)
    return 0


def order_of(given: argparse.Namespace) -> Order:
    """Return the wishes for all lines of a command."""
    deadline = None
    if given.deadline is not None:
        deadline = parse_time(given.deadline, key="--deadline")
        require(deadline > time.time(), "--deadline", given.deadline, "has passed; give a time to come")
    return Order(
        priority=given.priority,
        flex=given.flex,
        deadline=deadline,
        owner=given.owner,
        name=given.name,
        cores=given.cores,
    )


def run(given: argparse.Namespace) -> int:
    """Run the floor until all lines have ended; return 1 if one of them failed."""
    watts = inf
    if given.watts is not None:
        watts = parse_watts(given.watts, key="--watts")
        require(watts > 0.0, "--watts", given.watts, "no line would ever run; give more than 0 W")
    if given.cores is not None:
        require(0.0 < given.cores <= 4096, "--cores", given.cores, "must be above 0, and at most 4096")
    profiles = [name for name in options.choices("profile") if name != "capped"]
    if given.profile and given.profile not in profiles:
        # The limit of a capped line is a number of its own.
        raise ValueError(f"--profile={given.profile}: choose one of {', '.join(profiles)}")
    require(0.05 <= given.tick <= 60.0, "--tick", given.tick, "must be in [0.05, 60]")
    sections.check(given.overrides, ("floor", "operator"))
    scheduler = sections.parse(Settings, "floor", given.overrides, page="docs/budget.md")
    config = sections.parse(OperatorConfig, "operator", given.overrides, page="docs/operator.md")
    watch = operator_command.watching(config, Mode(given.operator))
    # Two processes of one floor would start every line twice.
    with Store(given.root, create=given.forever) as store, floor_lock.locked(given.root):
        _check_engine(store, given.engine)
        engine = ENGINES[given.engine](root=given.root, cores=given.cores, address=given.address)
        rules = Rules(
            watts=watts,
            tick_s=given.tick,
            profile=given.profile,
            is_forever=given.forever,
            scheduler=scheduler,
        )
        return run_floor(store, engine, rules, watch=grid_watcher.beside(watch))


def _check_engine(store: Store, name: str) -> None:
    """Raise ValueError if lines live on another engine, which this one can neither see nor end."""
    elsewhere: dict[str, list[str]] = {}
    for line in store.lines(ACTIVE):
        attempt = store.last_attempt(line.id)
        if attempt is not None and attempt.handle is not None and attempt.handle.engine != name:
            elsewhere.setdefault(attempt.handle.engine, []).append(str(line.id))
    for other, lines in elsewhere.items():
        raise ValueError(
            f"--engine={name}: lines {', '.join(lines)} were started by the engine {other};"
            f" run the floor with --engine {other} until they have ended, or cancel them there"
        )


def status(given: argparse.Namespace) -> int:
    """Show lines, power and energy."""
    with Store(given.root) as store:
        if given.json:
            print(strict_json.dumps(status_view.plain(store)))
        elif given.watch:
            status_view.watch(store)
        else:
            status_view.show(store)
    return 0


def why(given: argparse.Namespace) -> int:
    """Print in one sentence why a line is waiting, or how it ended."""
    with Store(given.root) as store:
        line = store.line(given.line)
        text = status_view.explain(store, line)
        if given.json:
            print(strict_json.dumps({"id": line.id, "state": line.state.value, "why": text}, indent=None))
        else:
            print(text)
    return 0


def order(given: argparse.Namespace) -> int:
    """Leave an order for a line, and wait for the running floor to carry it out."""
    with Store(given.root) as store:
        line = store.line(given.line)
        if line.state.is_final:
            raise ValueError(f"line {line.id}: already {line.state}; {given.command} changes nothing")
        arguments = {}
        if given.command == "priority":
            require(abs(given.priority) <= 1000, "priority", given.priority, "must be in [-1000, 1000]")
            arguments = {"priority": given.priority}
        number = store.add_command(given.command, line=line.id, **arguments)
        print(answer(store, number))
    return 0


def drain(given: argparse.Namespace) -> int:
    """Ask the running floor to start no more lines."""
    with Store(given.root) as store:
        if not floor_lock.is_held(given.root):
            raise ValueError(f"root={given.root}: no process runs this floor; there is nothing to drain")
        print(answer(store, store.add_command("drain")))
    return 0


def report(given: argparse.Namespace) -> int:
    """Print output, cost and downtime of the floor."""
    since = 0.0
    if given.shift is not None:
        since = time.time() - parse_duration(given.shift, key="--shift")
    with Store(given.root) as store:
        found = shift_report(store, since=since)
        found["sweeps"] = [view.plain(store, sweep) for sweep in table.sweeps(store)]
        page = write_page(store)
    if given.json:
        print(strict_json.dumps(found))
    else:
        print_report(found)
        print(f"page: {page}")
    return 0


def audit(given: argparse.Namespace) -> int:
    """Recompute the chain of events."""
    with Store(given.root) as store:
        try:
            number = store.verify_events()
        except ValueError as error:
            cli.fail(error, status=1)
        print(f"{number} events, the chain is intact")
    return 0
