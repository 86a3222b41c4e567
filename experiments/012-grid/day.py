"""A recorded day of price and carbon intensity in fast motion, beside a floor that does not look at it.

PYTHONPATH=. python experiments/012-grid/day.py [--days 2] [--scale 240] [--root DIR]

Two floors get the same four lines at midnight of 28 June 2024 in Germany: one of flex 1, two of flex 3, and
one of flex 3 that must end by six in the morning, before electricity is cheap. One floor lets lines of flex 3
run only below 80 USD/MWh. The day passes `scale` times faster than the clock. Each floor gets a control group
of its own for its CPU time where the kernel allows that, or each meters both.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from factory.floor.history import Span, spans
from factory.floor.lines import LineState
from factory.floor.store import Store
from factory.grid import costs

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "009-floor"))
from workshop import FloorUnderTest  # noqa: E402

LINE = (
    "task=cartpole_swingup",
    "num_envs=64",
    "total_steps=100_000",
    "tracking=jsonl",
    "runtime.torch_threads=1",
    "runtime.video_s=0",
    "runtime.register_model=false",
)
PREPARATION_S = 60.0
"""Time for the commands that hand in the last line and import the signals, on a busy machine [s]."""
HOUR_S = 3600.0
DEADLINE_H = 6.0
BELOW_USD_PER_KWH = 0.08
BACKGROUND = (2, 3)
"""Lines of flex 3 without a deadline."""
AMOUNTS = ("joules", "usd", "gco2e_average", "unpriced_j", "stale_j")


def main() -> None:
    """Run both floors through the day as often as asked, and print one JSON object."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--root", type=Path, default=None)
    arguments.add_argument("--days", type=int, default=2, help="times that the day is repeated")
    arguments.add_argument("--scale", type=float, default=240.0, help="times faster than the clock")
    given = arguments.parse_args()
    root = given.root or Path(tempfile.mkdtemp(prefix="day-"))
    days = [run_day(root / str(number), given.scale) for number in range(given.days)]
    results = {
        "day": "2024-06-28, Germany",
        "scale": given.scale,
        "below_usd_per_kwh": BELOW_USD_PER_KWH,
        "commit": subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
        ).stdout.strip(),
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}, load {os.getloadavg()[1]:.1f} at the end",
        "tier": "estimated",
        "days": days,
    }
    (HERE / "day.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(days[0])
    print(json.dumps([day["saved"] for day in days], indent=1))


def run_day(root: Path, scale: float) -> dict[str, Any]:
    """Let both floors pass the day at the same time, and return what became of their lines."""
    root.mkdir(parents=True)
    floors = {"rule": FloorUnderTest(root / "rule"), "control": FloorUnderTest(root / "control")}
    for floor in floors.values():
        floor.submit(*LINE, "seed=0", "--flex", "1")
        floor.submit(*LINE, "seed=1,2", "--flex", "3")
    floors["rule"].call("grid", "rule", "--below-price", str(BELOW_USD_PER_KWH))
    midnight = time.time() + PREPARATION_S
    deadline = moment(midnight + DEADLINE_H * HOUR_S / scale)
    for floor in floors.values():
        floor.submit(*LINE, "seed=3", "--flex", "3", "--deadline", deadline)
        for path in write_signals(root, midnight, scale):
            floor.call("grid", "import", str(path))
    time.sleep(max(0.0, midnight - time.time()))
    are_apart = [floor.start_apart("--cores", "2", "--operator", "off") for floor in floors.values()]
    statuses = {name: floor.wait(2.0 * 86400.0 / scale) for name, floor in floors.items()}
    found = {name: evaluate(floor.root, midnight, scale) for name, floor in floors.items()}
    saved = {
        key: 1.0 - found["rule"]["background"][key] / found["control"]["background"][key]
        for key in ("joules", "usd", "gco2e_average")
    }
    return {"groups_of_their_own": are_apart, "exit_statuses": statuses, "saved": saved, **found}


def moment(at: float) -> str:
    """Return a time as the commands take it."""
    return datetime.fromtimestamp(at, UTC).isoformat()


def read_day() -> list[tuple[float, float]]:
    """Return price [USD/kWh] and carbon intensity [g/kWh] of each hour."""
    with (HERE / "day.csv").open(newline="") as file:
        return [(float(row["usd_per_mwh"]) / 1e3, float(row["g_per_kwh"])) for row in csv.DictReader(file)]


def write_signals(root: Path, midnight: float, scale: float) -> list[Path]:
    """Write price and intensity of the day, each hour as long as the scale makes it."""
    paths = [root / "price.csv", root / "carbon.csv"]
    lines = [["time_utc,usd_per_kwh"], ["time_utc,g_per_kwh"]]
    for hour, (usd_per_kwh, g_per_kwh) in enumerate(read_day()):
        at = moment(midnight + hour * HOUR_S / scale)
        lines[0].append(f"{at},{usd_per_kwh}")
        lines[1].append(f"{at},{g_per_kwh}")
    for path, text in zip(paths, lines, strict=True):
        path.write_text("\n".join(text) + "\n")
    return paths


def evaluate(root: Path, midnight: float, scale: float) -> dict[str, Any]:
    """Return state, hours and costs of the lines of a floor, and the sums over its background lines."""
    with Store(root) as store:
        store.verify_events()
        seen = spans(store.events(limit=100_000), now=time.time())
        rows = [describe(store, line.id, seen, midnight, scale) for line in store.lines()]
    sums = {key: sum(row[key] for row in rows if row["id"] in BACKGROUND) for key in (*AMOUNTS, "cpu_s")}
    return {"lines": rows, "background": sums}


def describe(store: Store, number: int, seen: list[Span], midnight: float, scale: float) -> dict[str, Any]:
    """Return a line as a row of the results; hours are those of the recorded day."""
    line = store.line(number)
    cost = costs.read(store, number) or costs.Cost()
    own = [span for span in seen if span.line == number and span.state.is_active]

    def hour(at: float) -> float:
        return round((at - midnight) * scale / HOUR_S, 3)

    return {
        "id": number,
        "flex": line.flex,
        "state": line.state.value,
        "tokens": line.tokens,
        "attempts": line.attempts,
        "cpu_s": sum(attempt.cpu_s for attempt in store.attempts(number)),
        "active_h": [[hour(span.start), hour(span.end), span.state.value] for span in own],
        "ended_h": hour(line.state_since),
        **{key: asdict(cost)[key] for key in AMOUNTS},
    }


def draw(day: dict[str, Any]) -> None:
    """Draw price and intensity over the day, and below them when the lines of both floors ran."""
    hours = read_day()
    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(8, 5.5), sharex=True, layout="constrained", height_ratios=(3, 2)
    )
    edges = list(range(len(hours) + 1))
    upper.stairs([usd * 1e3 for usd, _ in hours], edges, color="C0", baseline=None, label="price")
    upper.axhline(BELOW_USD_PER_KWH * 1e3, color="C0", linestyle=":", label="limit of the rule")
    upper.set_ylabel("price [USD/MWh]")
    grams = upper.twinx()
    grams.stairs([g for _, g in hours], edges, color="C3", baseline=None, label="carbon")
    grams.set_ylabel("carbon intensity [gCO2e/kWh]", color="C3")
    upper.legend(loc="upper center")
    labels: list[str] = []
    for name in ("control", "rule"):
        for row in day[name]["lines"]:
            for start, end, state in row["active_h"]:
                shade = 0.35 if state == LineState.PAUSED else 1.0
                colour = "C2" if name == "rule" else "0.5"
                lower.barh(len(labels), end - start, left=start, color=colour, alpha=shade)
            labels.append(f"{name}: line {row['id']}, flex {row['flex']}")
    lower.axvline(DEADLINE_H, color="k", linestyle=":")
    lower.set_yticks(range(len(labels)), labels, fontsize=8)
    lower.invert_yaxis()
    lower.set_xlabel("hour of the recorded day (UTC); pale: paused; dotted: deadline of lines 4")
    lower.set_xlim(0, 24)
    figure.savefig(HERE / "day.png", dpi=120)


if __name__ == "__main__":
    main()
