"""Put the score in `results.json` and the half hour in `soak.json` into the README."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]

from results_page import insert_results  # noqa: E402

from factory.operator.scoring.cases import BY_NAME  # noqa: E402
from factory.operator.scoring.show import COLUMNS, TITLES, cells, sentence  # noqa: E402

_DECIDERS = ("none", "rule", "bandit", "llm", "oracle")


def main() -> None:
    """Write the tables, and the totals below them."""
    results = json.loads((HERE / "results.json").read_text())
    lines = list(_lines(results))
    soak = HERE / "soak.json"
    if soak.exists():
        lines += _soak_lines(json.loads(soak.read_text()))
    insert_results("\n".join(lines), HERE / "README.md")


def _lines(results: dict) -> Iterator[str]:
    yield _where(results)
    for kind, title in TITLES.items():
        rows = sorted((row for row in results["rows"] if row["kind"] == kind), key=_place)
        if rows:
            yield f"\n{title}\n\n| {' | '.join(COLUMNS)} |\n|---|---|{'---:|' * (len(COLUMNS) - 2)}"
            yield from (f"| {' | '.join(cells(row))} |" for row in rows)
    yield ""
    yield from (f"- {sentence(total)}" for total in results["totals"])


def _place(row: dict) -> tuple[int, int]:
    """Return the place of a row in the table: classes as they are listed, deciders within a class."""
    return list(BY_NAME).index(row["case"]), _DECIDERS.index(row["decider"])


def _soak_lines(soak: dict) -> Iterator[str]:
    yield f"\nsoak: two lines for {soak['minutes']:.0f} minutes, seven faults one after another\n"
    yield _where(soak)
    yield "\n| fault | latency s | repair s | actions | wrong | other alarms |\n|---|---:|---:|---|---:|---:|"
    for one in soak["faults"]:
        acts = ", ".join(one["acts"]) or "-"
        times = f"{_seconds(one['latency_s'])} | {_seconds(one['repair_s'])}"
        yield f"| {one['case']} | {times} | {acts} | {one['wrong']} | {one['alarms']} |"
    cost = soak["cost"]
    share = 100.0 * cost["cpu_s"] / (60.0 * soak["minutes"])
    spent = f"{cost['cpu_s']:.1f} s of CPU in {cost['ticks']:.0f} ticks, {share:.2f} % of a core"
    yield f"\n- operator: {spent}; the longest tick took {1e3 * cost['longest_tick_s']:.0f} ms"


def _where(content: dict) -> str:
    machine = content["machine"]
    where = f"{machine['cpus_available']} CPUs ({machine['cpu']}), load {machine['load_average_1min']:.0f}"
    return f"{where}, commit {content['git.commit'][:10]}, {content['date']}."


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}"


if __name__ == "__main__":
    main()
