"""Break real runs on purpose, and compare what happens with the promises."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

import folders  # noqa: E402
import interruptions  # noqa: E402
import machines  # noqa: E402
import mistakes  # noqa: E402
import samples  # noqa: E402
from promises import Fault, judge  # noqa: E402
from results_page import insert_results  # noqa: E402
from workshop import Workshop  # noqa: E402

from factory.runtime import hardware, provenance  # noqa: E402


def main() -> int:
    """Inject the chosen faults, write results and table, and return 1 if a promise was broken."""
    args = arguments()
    chosen = [fault for fault in all_faults() if fault.kind in args.only and args.match in fault.name]
    if args.list:
        print("\n".join(f"{fault.kind:<12} {fault.name!r}" for fault in chosen))
        return 0
    results = {
        **provenance.git_tags(),
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": hardware.describe(),
        "faults": {},
    }
    cells: dict[str, Any] = results["faults"]
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as root, ThreadPoolExecutor(args.workers) as pool:
        shop = Workshop(Path(root))
        futures = [pool.submit(attempt, shop, fault, index) for index, fault in enumerate(chosen)]
        for fault, future in zip(chosen, futures, strict=True):
            cell = future.result()
            cells[f"{fault.kind}: {fault.name}"] = cell
            word = cell["broken"] or "kept"
            print(f"{fault.kind:<12} {fault.name[:60]!r:<64} {word}", file=sys.stderr, flush=True)
            # After every fault: a pass takes long, and what it has found must not be lost.
            (args.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    text = table(results)
    if (args.out / "README.md").is_file():
        insert_results(text, args.out / "README.md")
    print(text)
    return int(any(cell["broken"] for cell in cells.values()))


def arguments() -> argparse.Namespace:
    """Return the command line's choices."""
    kinds = sorted({fault.kind for fault in all_faults()})
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=kinds, default=kinds, metavar="KIND", help=", ".join(kinds)
    )
    parser.add_argument("--match", default="", help="only faults whose name holds this")
    parser.add_argument("--workers", type=int, default=2, help="faults at the same time")
    parser.add_argument("--list", action="store_true", help="name the faults and inject none")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results.json and README.md")
    return parser.parse_args()


def all_faults() -> Iterator[Fault]:
    """Yield every fault."""
    for kind in (mistakes, samples, interruptions, folders, machines):
        yield from kind.faults()


def attempt(shop: Workshop, fault: Fault, index: int) -> dict[str, Any]:
    """Inject a fault in a folder of its own; return promise, outcome and how the promise was broken."""
    folder = shop.root / f"{index:03d}"
    folder.mkdir()
    try:
        seen = fault.inject(shop, folder)
    except Exception:
        # The experiment itself failed, or the run left nothing to look at: shown as broken.
        return {"promise": fault.promise.words, "broken": traceback.format_exc(limit=-2)[-300:], "seen": ""}
    lines = [line for line in seen.err.strip().splitlines() if line.strip()]
    return {
        "promise": fault.promise.words,
        "status": seen.status,
        "seen": (lines[-1] if lines else "").replace(str(folder), "...")[:300],
        "broken": judge(fault, seen),
    }


def table(results: dict[str, Any]) -> str:
    """Return the table: fault, promise, what was seen, and what was lost."""
    cells = results["faults"]
    kept = sum(not cell["broken"] for cell in cells.values())
    place = f"{results['machine']['cpu']}, commit {results['git.commit'][:10]}, {results['date']}"
    lines = [
        f"{kept} of {len(cells)} promises kept. {place}.",
        "",
        "| fault | promise | seen | broken |",
        "|---|---|---|---|",
    ]
    for name, cell in cells.items():
        status = f"status {cell['status']}" if "status" in cell else "-"
        row = (name, cell["promise"], f"{status} {cell['seen']}".strip(), cell["broken"] or "-")
        lines.append("| " + " | ".join(_plain(text) for text in row) + " |")
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Return a text that fits a cell of a Markdown table."""
    text = " ".join(text.split()).replace("|", "/").replace("<", "&lt;").replace("`", "'")
    return text[:220]


if __name__ == "__main__":
    sys.exit(main())
