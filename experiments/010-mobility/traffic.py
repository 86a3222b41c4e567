"""Write the tables of docs/benchmarks/traffic.md from the results in traffic-v1/.

usage: python experiments/010-mobility/traffic.py

A result is what `python -m factory.evaluate suite=traffic-v1 ... out=traffic-v1/<split>_<name>.json` wrote.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from results_page import insert_results

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "benchmarks" / "traffic.md"
SPLITS = ("test", "dense", "topology", "mixed", "rules")
SHARES = ("success", "collision", "off_road", "timeout")
MEANS = ("delay_s", "throughput", "hard_braking", "close", "deadlock")


def results() -> list[tuple[str, str, dict[str, Any]]]:
    """Return split, name of the policy and content of all results, the best success of a split first."""
    found = []
    for path in (HERE / "traffic-v1").glob("*.json"):
        content = json.loads(path.read_text())
        found.append((content["split"], path.stem.partition("_")[2], content))
    return sorted(found, key=lambda item: (SPLITS.index(item[0]), -item[2]["metrics"]["success"][1]))


def share(bounds: list[float]) -> str:
    """Return a share with its interval, in percent."""
    low, value, high = (100.0 * bound for bound in bounds)
    return f"{value:.1f} ({low:.1f} to {high:.1f})"


def number(bounds: list[float]) -> str:
    """Return a mean; a dash where no episode has the number."""
    if bounds[1] != bounds[1]:
        return "-"
    return f"{bounds[1]:.3g}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Write a table of every split, and one of the kinds of junctions."""
    found = results()
    head = ["split", "driver", *(f"{name} [%]" for name in SHARES), *MEANS]
    rows = [
        [split, f"`{name}`"]
        + [share(content["metrics"][key]) for key in SHARES]
        + [number(content["metrics"][key]) for key in MEANS]
        for split, name, content in found
    ]
    kinds = list(next(content["kinds"] for split, _, content in found if split == "test"))
    by_kind = [
        [split, f"`{name}`", *(f"{100.0 * content['kinds'][kind]['success'][1]:.1f}" for kind in kinds)]
        for split, name, content in found
        if split in ("test", "dense")
    ]
    parts = [
        table(head, rows),
        "Success by kind of junction [%]:",
        table(["split", "driver", *kinds], by_kind),
    ]
    insert_results("\n\n".join(parts), PAGE)


if __name__ == "__main__":
    main()
