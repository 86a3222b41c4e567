"""Project runs or a floor to a data centre: output, capital, electricity, break-even price and payback.

usage: python -m factory.site project from=<floor | its folder | run folder | MLflow run id | last> [...]
                              [site=gigawatt|megawatt|cellar|<file>.yaml] [inputs.<input>=<number or range>]
                              [gate=<return>] [gang=1] [policy_usd=<price>] [allow_estimated=true]
                              [num_draws=20000] [seed=0] [mlflow=false] [uri=<MLflow store>]
                              [out=FILE.json] [output_root=outputs]
       python -m factory.site compare from=... site=<one> site=<other> [the keys above]
       python -m factory.site compare from=... against=... [the keys above]

  from          floor, or runs of one task, ideally seeds of one configuration; `floor` is outputs/floor
  site          the ranges and sources of all inputs (conf/site)
  inputs.*      an input of your own, as a number or as [low,typical,high], e.g. inputs.price_usd_per_kwh=0.05
  gate          return from which a policy is good, where the task has no threshold
  gang          machines that stop together when one of them fails; 1 for lines on one machine
  policy_usd    price of a good policy; otherwise the rent of the same compute in a public cloud
  allow_estimated   accept estimated joules; their interval enters the draws

Writes FILE.json and, beside it, a page FILE.html with figures, and logs an MLflow run. A projection is no
measurement: the factor by which it extrapolates is printed.

examples: python -m factory.site project from=last-sweep site=gigawatt allow_estimated=true
          python -m factory.site project from=floor site=megawatt gate=500 inputs.life_years=3
          python -m factory.site compare from=floor site=gigawatt site=cellar allow_estimated=true
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from factory import cli
from factory.cli.spelling import near_names
from factory.tracking.credentials import redacted
from factory.validation import require

_COMMANDS = ("project", "compare")
_REPEATED = ("from", "against", "site")
"""Keys that may be given several times."""
FLOOR = "floor"
DEFAULT_SITE = "gigawatt"
_MOST_DRAWS = 1_000_000
_MOST_GANG = 1_000_000
_LARGEST_USD = 1e12


@dataclass(kw_only=True)
class SiteConfig:
    """Settings of a projection."""

    gate: float | None = None
    """Return from which a policy is good; by default the threshold of the task."""
    gang: int = 1
    """Machines that stop together when one of them fails."""
    policy_usd: float | None = None
    """Price of a good policy [USD]; by default the rent of the same compute in a public cloud."""
    allow_estimated: bool = False
    """Project from estimated joules, too."""
    inputs: dict[str, Any] = field(default_factory=dict)
    """Inputs in place of the site's: a number, or [low, typical, high]."""
    num_draws: int = 20_000
    """Draws of all inputs."""
    seed: int = 0
    """Seed of the draws."""
    mlflow: bool = True
    """Log a run."""
    uri: str = ""
    """MLflow store; empty means the one under `output_root`."""
    out: str = ""
    """JSON file to write; empty means `<output_root>/site/<site>_<date>_<time>.json`."""
    output_root: str = "outputs"
    """Folder of the runs and of the MLflow store."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        is_count = 100 <= self.num_draws <= _MOST_DRAWS
        require(is_count, "num_draws", self.num_draws, f"must be in [100, {_MOST_DRAWS}]")
        require(0 <= self.seed < 2**31, "seed", self.seed, "must be in [0, 2^31)")
        require(1 <= self.gang <= _MOST_GANG, "gang", self.gang, f"must be in [1, {_MOST_GANG}]")
        is_name = not self.out or (self.out.endswith(".json") and Path(self.out).name != ".json")
        require(is_name, "out", self.out, "name a JSON file, such as out=site.json")
        if self.policy_usd is not None:
            is_price = 0.0 < self.policy_usd <= _LARGEST_USD
            require(is_price, "policy_usd", self.policy_usd, "must be a price above 0 USD")


@dataclass(frozen=True, kw_only=True)
class Command:
    """A checked command line."""

    verb: str
    origins: tuple[str, ...]
    """Values of `from=`."""
    against: tuple[str, ...]
    """Values of `against=`: the second workload of a comparison."""
    sites: tuple[str, ...]
    cfg: SiteConfig


def parse(arguments: Sequence[str]) -> Command:
    """Return the command that the arguments ask for.

    Raises:
        ValueError, OmegaConfBaseException: An argument is wrong, or arguments contradict each other.
    """
    verb = next(iter(arguments), "")
    if verb not in _COMMANDS:
        near = near_names(verb, list(_COMMANDS))
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{verb or 'factory.site'}: give project or compare first{hint}; --help shows how")
    given: dict[str, list[str]] = {key: [] for key in _REPEATED}
    rest: list[str] = []
    for argument in arguments[1:]:
        key, equals, value = argument.removeprefix("--").partition("=")
        if equals and key in _REPEATED:
            require(bool(value), key, "''", "give a name")
            given[key].append(value)
        else:
            rest.append(argument)
    cfg = cli.parse(SiteConfig, rest)
    command = Command(
        verb=verb,
        origins=tuple(given["from"]),
        against=tuple(given["against"]),
        sites=tuple(given["site"]) or (DEFAULT_SITE,),
        cfg=cfg,
    )
    _check(command)
    return command


def _check(command: Command) -> None:
    remedy = "name a floor, run folders, MLflow run ids, last or last-sweep"
    require(bool(command.origins), "from", "", remedy)
    if command.verb == "project":
        require(len(command.sites) == 1, "site", ",".join(command.sites), "one at a time; compare takes two")
        require(not command.against, "against", ",".join(command.against), "only compare takes it")
        return
    has_sites = len(command.sites) == 2
    has_workloads = bool(command.against) and len(command.sites) == 1
    is_pair = has_sites != bool(command.against) and (has_sites or has_workloads)
    require(is_pair, "compare", "", "give site= twice, or from= and against= under one site")


def main(arguments: Sequence[str] | None = None) -> None:
    """Project or compare the workloads and sites of the command line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if cli.prints_info(__doc__):
        return
    cli.show_warnings()
    with cli.one_line_interrupts(), cli.one_line_errors():
        command = parse(given)
        cfg = command.cfg
        stem = f"{command.verb}_{'_'.join(Path(site).stem for site in command.sites)}"
        default = Path(cfg.output_root) / "site" / f"{stem}_{datetime.now():%Y-%m-%d_%H-%M-%S}.json"
        out = Path(cfg.out or default)
        # Loading numpy and scipy takes a moment, which a mistake in the arguments should not.
        from factory.site import run

        projections = run.projections(command)
        # Before anything is written, so that a folder without permission is one line.
        cli.check_writable(out.parent, key="out")
        shown = [text for text in given if not text.removeprefix("--").startswith(("out=", "uri="))]
        run.publish(projections, command, out, shown=redacted(_as_text(shown)))


def _as_text(arguments: Sequence[str]) -> str:
    return shlex.join(["python", "-m", "factory.site", *arguments])
