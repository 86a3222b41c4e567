"""Actions of `floor grid`; each takes the arguments and returns the exit status."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from math import isfinite
from pathlib import Path
from typing import Any

from factory import cli
from factory.floor.store import FILE, Store
from factory.grid import costs, imports, intake, reporter, rules, signals
from factory.grid.costs import Cost
from factory.grid.server import HOST, GridServer
from factory.grid.signals import Kind, Reading
from factory.runtime import stored_files, strict_json
from factory.runtime.stored_files import visible
from factory.validation import require

_NONE = "none"
_HIGHEST_LIMIT = 1e6
_MOST_OUTBOX_BYTES = 1 << 30
_J_PER_KWH = 3.6e6


def show(given: argparse.Namespace) -> int:
    """Print the signals now, the rule, and the name of the feed."""
    with Store(given.root) as store:
        now = time.time()
        for kind in Kind:
            print(f"{kind.value:<16}  {_reading_text(signals.read(store, kind).at(now), kind)}")
        rule = rules.read(store)
        limits = []
        if rule.below_price is not None:
            limits.append(f"{rule.below_price:g} {Kind.PRICE.unit}")
        if rule.below_carbon is not None:
            limits.append(f"{rule.below_carbon:g} {rule.carbon.unit} ({rule.carbon})")
        text = "none"
        if limits:
            text = f"lines of flex {rule.flex} and more run below {' and '.join(limits)}"
        print(f"{'rule':<16}  {text}")
        print(f"{'feed':<16}  {intake.settings(store)['feed']}")
    return 0


def _reading_text(reading: Reading | None, kind: Kind) -> str:
    if reading is None:
        return "unknown"
    remark = ""
    if reading.stale_s > 0.0:
        remark = f" (last known, {reading.stale_s / 60.0:.0f} min old)"
    elif reading.is_forecast:
        remark = " (forecast)"
    return f"{reading.value:g} {kind.unit}{remark}"


def import_file(given: argparse.Namespace) -> int:
    """Take a file with targets or a signal."""
    cli.check_writable(given.root, key="--root")
    if not given.file.is_file():
        raise ValueError(f"grid import: {given.file}: no such file; give one with targets or a signal")
    if not (given.root / FILE).is_file():
        # A wrong file must not leave a floor behind, so it is tried on one that is thrown away.
        with tempfile.TemporaryDirectory() as folder, Store(Path(folder), create=True) as store:
            imports.import_now(store, given.file, is_forecast=given.forecast)
    with Store(given.root, create=True) as store:
        print(imports.import_now(store, given.file, is_forecast=given.forecast))
    return 0


def set_rule(given: argparse.Namespace) -> int:
    """Set the limits below which background lines run."""
    changes: dict[str, Any] = {}
    if given.below_price is not None:
        changes["below_price"] = _limit(given.below_price, key="--below-price")
    if given.below_carbon is not None:
        changes["below_carbon"] = _limit(given.below_carbon, key="--below-carbon")
    if given.carbon is not None:
        changes["carbon"] = Kind(f"carbon_{given.carbon}")
    if given.flex is not None:
        require(1 <= given.flex <= 3, "--flex", given.flex, "must be 1, 2 or 3")
        changes["flex"] = given.flex
    cli.check_writable(given.root, key="--root")
    with Store(given.root, create=True) as store:
        rules.write(store, replace(rules.read(store), **changes))
    return show(given)


def _limit(text: str, *, key: str) -> float | None:
    """Return a limit; None for `none`."""
    if text == _NONE:
        return None
    remedy = "write a number, or none"
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{key}={text}: {remedy}") from None
    require(isfinite(value) and abs(value) <= _HIGHEST_LIMIT, key, text, remedy)
    return value


def set_feed(given: argparse.Namespace) -> int:
    """Set the name of the floor's feed, and the PUE of its site."""
    changes: dict[str, Any] = {}
    if given.name is not None:
        is_name = 0 < len(given.name) <= 100 and given.name.isprintable()
        require(is_name, "feed", given.name, "must be a short name")
        changes["feed"] = given.name
    if given.pue is not None:
        require(1.0 <= given.pue <= 10.0, "--pue", given.pue, "must be in [1, 10]")
        changes["pue"] = given.pue
    cli.check_writable(given.root, key="--root")
    with Store(given.root, create=True) as store, store.transaction():
        known = store.get(intake.SETTINGS) | changes
        store.put(intake.SETTINGS, known)
        store.record("grid settings", details=known)
    return 0


def show_costs(given: argparse.Namespace) -> int:
    """Print money and carbon of the lines, at the hours in which they ran."""
    with Store(given.root) as store:
        found = {line: costs.read(store, line.id) for line in store.lines()}
        known = {line: cost for line, cost in found.items() if cost is not None}
    if given.log:
        # Loading MLflow takes seconds.
        from factory.grid.ledger import log_costs

        num_runs = log_costs(known, root=given.root, uri=given.uri)
        print(f"logged to {num_runs} runs in MLflow: cost/* and carbon/*", file=sys.stderr)
    if given.json:
        rows = [{"id": line.id, "name": line.name, **asdict(cost)} for line, cost in known.items()]
        print(strict_json.dumps(rows))
        return 0
    if not known:
        print("no line has run while a price or an intensity was known; import one with `floor grid import`")
        return 0
    for line, cost in known.items():
        print(f"{line.id:>5}  {visible(line.name):<28.28}  {_cost_text(cost)}")
    total = _sum(list(known.values()))
    print(f"{'all':>5}  {'':<28}  {_cost_text(total)}")
    return 0


def _sum(found: list[Cost]) -> Cost:
    total = Cost()
    for cost in found:
        added = {key: value + getattr(total, key) for key, value in asdict(cost).items()}
        total = Cost(**added)
    return total


def _cost_text(cost: Cost) -> str:
    text = f"{cost.joules:.1f} J"
    priced_j = cost.joules - cost.unpriced_j
    if priced_j > 0.0:
        text += f"  {cost.usd:.3g} USD ({cost.usd / priced_j * _J_PER_KWH:.3g} USD/kWh with the PUE)"
    if cost.joules > cost.uncounted_j:
        text += f"  {cost.gco2e_average:.3g} gCO2e"
    if cost.stale_j > 0.0 and cost.joules > 0.0:
        text += f"  {100.0 * cost.stale_j / cost.joules:.0f} % at outdated values"
    return text


def listen(given: argparse.Namespace, *, ready: Callable[[GridServer], None] = lambda server: None) -> int:
    """Take messages on the loopback interface until interrupted."""
    require(0 <= given.port < 65536, "--port", given.port, "must be in [0, 65535]")
    cli.check_writable(given.root, key="--root")
    # The store is created before the first message comes, so that a mistake in --root shows at once.
    with Store(given.root, create=True):
        pass
    with GridServer(given.root, given.port) as server:
        print(f"http://{HOST}:{server.server_port}/events takes load targets until Ctrl-C", flush=True)
        ready(server)
        server.serve_forever(poll_interval=0.2)
    return 0


def outbox(given: argparse.Namespace) -> int:
    """Print the messages that the floor has for the grid."""
    with Store(given.root) as store:
        path = store.root / reporter.FILE
    if not path.is_file():
        raise ValueError(
            f"grid outbox: {path}: nothing yet; messages begin with the first target of the grid"
        )
    content, _ = stored_files.read_with_time(path, limit=_MOST_OUTBOX_BYTES, follows_link=False)
    print(content.decode(errors="replace"), end="")
    return 0
