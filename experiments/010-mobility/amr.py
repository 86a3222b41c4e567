"""Write the tables of docs/benchmarks/amr.md from the results in amr-v1/.

usage: python experiments/010-mobility/amr.py

A result is what `python -m factory.evaluate suite=amr-v1 ... out=amr-v1/<split>_<name>.json` wrote.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from results_page import insert_results

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "benchmarks" / "amr.md"
KINDS = ("aisles", "rooms", "clutter", "ca")


def results() -> dict[tuple[str, str], dict[str, Any]]:
    """Return all results by split and name of the policy, the best success first."""
    found = {}
    for path in (HERE / "amr-v1").glob("*.json"):
        content = json.loads(path.read_text())
        found[content["split"], path.stem.partition("_")[2]] = content
    return dict(sorted(found.items(), key=lambda item: -item[1]["metrics"]["success"][1]))


def share(bounds: list[float]) -> str:
    """Return a share with its interval, in percent."""
    low, value, high = (100.0 * bound for bound in bounds)
    return f"{value:.1f} ({low:.1f} to {high:.1f})"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Write the tables of the test split, of its kinds, and of the shifted sets."""
    found = results()
    test = {name: content for (split, name), content in found.items() if split == "test"}
    columns = ["success", "collision_at_fault", "collision", "timeout"]
    means = ["spl", "sct", "barn_score", "clearance_p05_m"]
    head = ["test episodes", *(f"{column} [%]" for column in columns), *means]
    rows = [
        [f"`{name}`"]
        + [share(content["metrics"][column]) for column in columns]
        + [f"{content['metrics'][column][1]:.3f}" for column in means]
        for name, content in test.items()
    ]
    by_kind = [
        [f"`{name}`", *(f"{100.0 * content['kinds'][kind]['success'][1]:.1f}" for kind in KINDS)]
        for name, content in test.items()
    ]
    shifted = [
        [
            split,
            f"`{name}`",
            *(share(metrics[column]) for column in ("success", "collision_at_fault")),
            *(f"{metrics[column][1]:.3f}" for column in ("spl", "sct")),
        ]
        for (split, name), content in sorted(found.items(), key=lambda item: item[0][0])
        for metrics in [content["metrics"]]
        if split != "test"
    ]
    parts = [
        table(head, rows),
        "Success by kind of hall [%]:",
        table(["", *KINDS], by_kind),
        "Other splits:",
        table(["split", "policy", "success [%]", "collision_at_fault [%]", "spl", "sct"], shifted),
    ]
    insert_results("\n\n".join(parts), PAGE)


if __name__ == "__main__":
    main()
