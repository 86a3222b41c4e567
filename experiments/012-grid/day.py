"""A recorded day of price and carbon intensity in fast motion, beside a floor that does not look at it.

python experiments/012-grid/day.py [--scale 240] [--root DIR]

Two floors get the same three lines at midnight of 28 June 2024 in Germany, one of flex 1 and two of flex 3.
One lets lines of flex 3 run only below 80 USD/MWh. The day passes `scale` times faster than the clock. Each
floor gets a control group of its own for its CPU time where the kernel allows that, or each meters both.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "009-floor"))
from workshop import FloorUnderTest  # noqa: E402

LINE = (
    "task=cartpole_swingup",
    "num_envs=64",
    "tracking=jsonl",
    "runtime.torch_threads=1",
    "runtime.video_s=0",
    "runtime.register_model=false",
)
STEPS = 100_000
PREPARATION_S = 100.0
"""Time for the four commands that import the signals, on a busy machine [s]."""
HOUR_S = 3600.0
BELOW_USD_PER_KWH = 0.08
FIELDS = ("joules", "usd", "gco2e_average", "unpriced_j")


def main() -> None:
    """Run both floors through the day and print one JSON object."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--root", type=Path, default=None)
    arguments.add_argument("--scale", type=float, default=240.0, help="times faster than the clock")
    given = arguments.parse_args()
    root = given.root or Path(tempfile.mkdtemp(prefix="day-"))
    floors = {"rule": FloorUnderTest(root / "rule"), "control": FloorUnderTest(root / "control")}
    for floor in floors.values():
        floor.submit(*LINE, f"total_steps={STEPS}", "seed=0", "--flex", "1")
        floor.submit(*LINE, f"total_steps={STEPS}", "seed=1,2", "--flex", "3")
    floors["rule"].call("grid", "rule", "--below-price", str(BELOW_USD_PER_KWH))
    midnight = time.time() + PREPARATION_S
    for floor in floors.values():
        for path in write_signals(root, midnight, given.scale):
            floor.call("grid", "import", str(path))
    time.sleep(max(0.0, midnight - time.time()))
    are_apart = [floor.start_apart("--cores", "2", "--operator", "off") for floor in floors.values()]
    statuses = {name: floor.wait(2.0 * 86400.0 / given.scale) for name, floor in floors.items()}
    results: dict[str, Any] = {
        "day": "2024-06-28, Germany",
        "scale": given.scale,
        "below_usd_per_kwh": BELOW_USD_PER_KWH,
        "groups_of_their_own": are_apart,
        "exit_statuses": statuses,
    }
    for name, floor in floors.items():
        results[name] = evaluate(floor, midnight, given.scale)
    (HERE / "day.json").write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


def write_signals(root: Path, midnight: float, scale: float) -> list[Path]:
    """Write price and intensity of the day, each hour as long as the scale makes it."""
    with (HERE / "day.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    paths = [root / "price.csv", root / "carbon.csv"]
    lines = [["time_utc,usd_per_kwh"], ["time_utc,g_per_kwh"]]
    for hour, row in enumerate(rows):
        at = datetime.fromtimestamp(midnight + hour * HOUR_S / scale, UTC).isoformat()
        lines[0].append(f"{at},{float(row['usd_per_mwh']) / 1000.0}")
        lines[1].append(f"{at},{row['g_per_kwh']}")
    for path, text in zip(paths, lines, strict=True):
        path.write_text("\n".join(text) + "\n")
    return paths


def evaluate(floor: FloorUnderTest, midnight: float, scale: float) -> dict[str, Any]:
    """Return states, costs and hours of the lines of a floor; those of flex 3 are the background."""
    lines = {line["id"]: line for line in floor.status()["lines"]}
    costs = {row["id"]: row for row in json.loads(floor.call("grid", "costs", "--json"))}
    background = [row for number, row in costs.items() if lines[number]["flex"] == 3]
    ended = {number: ended_at(floor, number) for number in lines}
    return {
        "states": {number: line["state"] for number, line in lines.items()},
        "tokens": {number: line["tokens"] for number, line in lines.items()},
        "ended_at_hour": {number: (at - midnight) * scale / HOUR_S for number, at in ended.items()},
        "background": {field: sum(row[field] for row in background) for field in FIELDS},
        "all": {field: sum(row[field] for row in costs.values()) for field in FIELDS},
    }


def ended_at(floor: FloorUnderTest, number: int) -> float:
    """Return the time at which the last attempt of a line ended [s since 1970]."""
    paths = sorted((floor.root / "lines" / str(number)).glob("*/exit.json"))
    return float(json.loads(paths[-1].read_text())["ended_at"])


if __name__ == "__main__":
    main()
