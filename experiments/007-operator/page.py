"""Put the score in `results.json` into the README."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]

from results_page import insert_results  # noqa: E402

from factory.operator.scoring.show import COLUMNS, TITLES, cells, sentence  # noqa: E402


def main() -> None:
    """Write the tables, and the totals below them."""
    results = json.loads((HERE / "results.json").read_text())
    insert_results("\n".join(_lines(results)), HERE / "README.md")


def _lines(results: dict) -> Iterator[str]:
    machine = results["machine"]
    where = f"{machine['cpus_available']} CPUs ({machine['cpu']}), load {machine['load_average_1min']:.0f}"
    yield f"{where}, commit {results['git.commit'][:10]}, {results['date']}."
    for kind, title in TITLES.items():
        rows = [row for row in results["rows"] if row["kind"] == kind]
        if rows:
            yield f"\n{title}\n\n| {' | '.join(COLUMNS)} |\n|---|---|{'---:|' * (len(COLUMNS) - 2)}"
            yield from (f"| {' | '.join(cells(row))} |" for row in rows)
    yield ""
    yield from (f"- {sentence(total)}" for total in results["totals"])


if __name__ == "__main__":
    main()
