"""`factory.site`: read the workloads, project them, and publish the result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from factory.comparison.runs import select_runs
from factory.floor.command_line import DEFAULT_ROOT
from factory.runtime.atomic_write import atomic_write
from factory.runtime.strict_json import nan_to_none
from factory.site import contrast, floor_workload, ledger, site_file, table, workload
from factory.site.command_line import FLOOR, Command, SiteConfig
from factory.site.projection import Assumptions, Projection, check_tier, project
from factory.site.workload import Workload
from factory.validation import require


def projections(command: Command) -> list[Projection]:
    """Return the projection, or the two of a comparison.

    Raises:
        ValueError: A workload or a site is not there, or not fit to be projected.
    """
    cfg = command.cfg
    # Sites first: they are read at once, while a floor may have a long history.
    sites = [site_file.load(name).with_values(cfg.inputs) for name in command.sites]
    # Two sites under one workload, or two workloads under one site: every pair is projected.
    works = [read_workload(command.origins, cfg)]
    if command.against:
        works.append(read_workload(command.against, cfg))
    for work in works:
        check_tier(work, allow_estimated=cfg.allow_estimated)
    assumptions = Assumptions(
        gang=cfg.gang, policy_usd=cfg.policy_usd, num_draws=cfg.num_draws, seed=cfg.seed
    )
    return [project(site, work, assumptions) for site in sites for work in works]


def read_workload(names: Sequence[str], cfg: SiteConfig) -> Workload:
    """Return the workload of a floor or of runs.

    Raises:
        ValueError: A name belongs to neither, or floors and runs are mixed.
    """
    roots = [Path(name) for name in names]
    if tuple(names) == (FLOOR,):
        roots = [Path(DEFAULT_ROOT)]
        require(
            floor_workload.is_floor(roots[0]), "from", FLOOR, f"no floor in {DEFAULT_ROOT}; name its folder"
        )
    floors = [root for root in roots if floor_workload.is_floor(root)]
    if floors:
        require(len(names) == 1, "from", ", ".join(names), "give one floor alone")
        return floor_workload.from_floor(floors[0], gate=cfg.gate)
    try:
        runs = select_runs(names, output_root=Path(cfg.output_root))
    except ValueError as error:
        raise ValueError(str(error).replace("run=", "from=")) from error
    return workload.from_runs(runs, gate=cfg.gate)


def publish(found: Sequence[Projection], command: Command, out: Path, *, shown: str) -> None:
    """Write JSON, page and MLflow run, and print the table.

    Args:
        found: one projection, or two to compare.
        command: what was asked for.
        out: the JSON file; the page is beside it.
        shown: command line for people.
    """
    # Matplotlib is loaded once there is something to draw.
    from factory.site.page import write_page

    out.parent.mkdir(parents=True, exist_ok=True)
    pair = None
    if len(found) == 2:
        pair = contrast.compare(found[0], found[1])
    content: dict[str, Any] = found[0].as_plain()
    if pair is not None:
        content = pair.as_plain()
    with atomic_write(out) as unfinished:
        unfinished.write_text(json.dumps(nan_to_none(content), indent=1, allow_nan=False))
    page = out.with_suffix(".html")
    with atomic_write(page) as unfinished:
        write_page(found, pair, unfinished, command=shown)
    table.print_projections(found, pair)
    if command.cfg.mlflow:
        ledger.log_projections(found, files=[out, page], cfg=command.cfg)
    print(f"written: {out} and {page.name} beside it")
