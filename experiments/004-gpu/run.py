"""Check, time and train on a GPU machine, in one call: `python experiments/004-gpu/run.py --out DIR`."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from results_page import insert_results  # noqa: E402

CHECKOUT = HERE.parents[1]
sys.path.insert(0, str(CHECKOUT))

from parts import JOBS, Job, Scale, jobs  # noqa: E402
from report import table  # noqa: E402

from factory.runtime import hardware, provenance  # noqa: E402
from factory.runtime.atomic_write import atomic_write  # noqa: E402

_MARK = "CELL "
"""Before what a worker found, in its output."""
_END_S = 5.0
"""Kept back at the end of the budget, to stop a worker and to write [s]."""


def main() -> None:
    """Run the jobs that are missing and fit, each in a process of its own, and write every cell at once."""
    args = arguments()
    scale = Scale(quick=args.quick, device=args.device, physics=args.physics)
    if args.job:
        work(JOBS[args.job], scale, args.cells)
        return
    end_s = time.monotonic() + args.budget_s - _END_S
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "results.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"cells": {}}
    results |= {"command": shlex.join(["python", *sys.argv]), "date": now(), **surroundings(args)}
    for job in jobs(args.only):
        if args.again:
            results["cells"] = {
                name: found for name, found in results["cells"].items() if name not in job.cells
            }
        for cell, found in supervise(job, results["cells"], args, left_s=end_s - time.monotonic()):
            results["cells"][cell] = found | {"date": now(), "git.commit": results["git.commit"]}
            with atomic_write(path) as unfinished:
                unfinished.write_text(json.dumps(results, indent=1) + "\n")
            print(
                f"{cell:<48} {found.get('error') or found.get('left_out') or 'done'}",
                file=sys.stderr,
                flush=True,
            )
    text = table(results)
    if not args.quick and (args.out / "README.md").is_file():
        insert_results(text, args.out / "README.md")
    print(text)


def arguments() -> argparse.Namespace:
    """Return the command line's choices."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="NAME", help=f"jobs that begin so: {', '.join(JOBS)}"
    )
    parser.add_argument(
        "--budget-s", type=float, default=570.0, help="time for all; what no longer fits is left out [s]"
    )
    parser.add_argument("--again", action="store_true", help="throw the results of these jobs away first")
    parser.add_argument(
        "--quick", action="store_true", help="a trial of everything, whose figures say nothing"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--physics", choices=("mujoco", "warp"), default="warp")
    parser.add_argument("--commit", help="of a checkout that is here without its history")
    parser.add_argument(
        "--mjlab-site", help="folders, as in PYTHONPATH, where mjlab 1.6 and what it needs are installed"
    )
    parser.add_argument("--out", type=Path, help="folder for results.json; a README.md there gets the table")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--cells", nargs="*", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.out = args.out or (CHECKOUT / "outputs" / HERE.name if args.quick else HERE)
    return args


def now() -> str:
    """Return date and time."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def surroundings(args: argparse.Namespace) -> dict[str, Any]:
    """Return commit, machine, driver and versions."""
    tags = provenance.git_tags()
    if args.commit:
        tags["git.commit"] = args.commit
    query = [
        "nvidia-smi",
        "--query-gpu=name,driver_version,power.limit,clocks.max.sm",
        "--format=csv,noheader",
    ]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        driver = None
    chosen = {"device": args.device, "physics": args.physics, "quick": args.quick}
    return {
        **tags,
        **chosen,
        "machine": hardware.describe(),
        "driver": driver,
        "versions": provenance.versions(),
    }


def work(job: Job, scale: Scale, cells: list[str]) -> None:
    """Take the cells of a job, in this process."""
    assert job.take is not None
    for cell, found in job.take(scale, cells):
        print(_MARK + json.dumps({"cell": cell, "found": found}), flush=True)


def supervise(
    job: Job, known: dict[str, Any], args: argparse.Namespace, *, left_s: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Let a process take the cells of a job that are missing.

    Yield each when it is there, or why it is not.
    """
    missing = [cell for cell in job.cells if not done(known.get(cell))]
    need_s = 0.0 if args.quick else job.need_s
    if missing and left_s < need_s:
        line = f"left out: needs {need_s:.0f} s, and {max(left_s, 0.0):.0f} s of the budget were left"
        yield from ((cell, {"left_out": line}) for cell in missing if cell not in known)
        return
    if not missing:
        return
    choices = ["--device", args.device, "--physics", args.physics, *["--quick"] * args.quick]
    command = [sys.executable, str(HERE / "run.py"), "--job", job.name, *choices, "--cells", *missing]
    # Warp compiles for up to a minute a robot: the folder outlives this call, and may be written.
    cache = {"WARP_CACHE_PATH": str(CHECKOUT / "outputs" / "warp-cache")}
    environment = cache | os.environ | {"PYTHONUNBUFFERED": "1"}
    if job.take is None:
        if args.mjlab_site is None:
            yield from (
                (cell, {"left_out": "left out: no --mjlab-site, and mjlab needs other versions"})
                for cell in missing
            )
            return
        command = [sys.executable, str(HERE / "mjlab_go1.py"), *choices, "--cells", *missing]
        environment["PYTHONPATH"] = args.mjlab_site
    log = args.out / f"{job.name}.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=CHECKOUT,
            env=environment,
            start_new_session=True,
        )
        watchdog = threading.Timer(left_s, os.killpg, (process.pid, signal.SIGKILL))
        watchdog.start()
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(_MARK):
                content = json.loads(line.removeprefix(_MARK))
                missing.remove(content["cell"])
                yield content["cell"], content["found"]
            else:
                errors.write(line)
        code = process.wait()
        watchdog.cancel()
    reason = (
        "stopped: the budget was used up"
        if code == -signal.SIGKILL
        else last_line(log) or f"exit status {code}"
    )
    yield from ((cell, {"error": reason}) for cell in missing)


def done(found: dict[str, Any] | None) -> bool:
    """Say whether a cell has its figures."""
    return found is not None and not {"error", "left_out"} & found.keys()


def last_line(log: Path) -> str:
    """Return the last line of a log that says anything, which of a traceback is the error."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


if __name__ == "__main__":
    main()
