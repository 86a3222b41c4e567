"""Say what this machine can simulate on, draw, measure and actuate, and what to do about what is missing.

usage: python -m factory.doctor [seconds=10] [--crosscheck] [--json] [device=auto|cpu|cuda]
[output_root=outputs]
                                [energy.<key>=...] [tracking.<key>=...]

  seconds       length of the self-test, a real load under the run's own meter; 0 leaves it out
  --crosscheck  let Zeus and CodeCarbon, if installed, watch the same load, and explain the differences
  --json        print one JSON object for programs instead of the page
  energy.*, tracking.*   as for factory.train, e.g. energy.rapl_root=/rapl or tracking.uri=http://server:5000

Nothing is set, installed or written. The exit status is 0 whenever it could look, whatever it found, and 2
for a mistake on the command line. docs/doctor.md says what the findings mean.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from factory import cli
from factory.diagnosis.finding import Finding, Status, look
from factory.diagnosis.show import Page
from factory.energy.config import EnergyConfig
from factory.runtime import provenance
from factory.runtime.strict_json import nan_to_none
from factory.tracking.config import TrackingConfig
from factory.validation import require

if TYPE_CHECKING:
    from factory.diagnosis.crosscheck import Measurement
    from factory.diagnosis.selftest import SelfTest

SCHEMA = "factory.doctor/1"
"""Version of the JSON object's layout."""
_FLAGS = {"--crosscheck": "crosscheck=true", "--json": "json=true"}


@dataclass(kw_only=True)
class DoctorConfig:
    """Settings of the examination."""

    seconds: float = 10.0
    """Length of the self-test [s]; 0 leaves it out."""
    crosscheck: bool = False
    """Let Zeus and CodeCarbon watch the self-test."""
    json: bool = False
    """Print JSON instead of a page."""
    device: str = "auto"
    """Device of the self-test and of the run it speaks for; `auto` is `cuda` where torch can use it."""
    output_root: str = "outputs"
    """Where runs would be written."""
    energy: EnergyConfig = field(default_factory=EnergyConfig)
    """Settings of the energy sources."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Settings of the experiment tracker."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        require(0.0 <= self.seconds <= 3600.0, "seconds", self.seconds, "must lie between 0 and 3600")
        require(self.device in ("auto", "cpu", "cuda"), "device", self.device, "choose auto, cpu or cuda")
        require(self.output_root != "", "output_root", "", "name a folder")
        require(
            not self.crosscheck or self.seconds > 0.0,
            "seconds",
            0,
            "--crosscheck needs a load; give seconds=10",
        )


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All that was found."""

    findings: list[Finding]
    test: SelfTest | None
    figures: list[Measurement]
    """The factory's figure of the load, then those of other tools; empty without a cross-check."""

    def to_json(self) -> str:
        """Return the findings for programs."""
        content = {
            "schema": SCHEMA,
            "versions": provenance.versions(),
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "self_test": None if self.test is None else _plain(self.test),
            "crosscheck": [figure.row() for figure in self.figures],
        }
        return json.dumps(content, indent=1)

    def print(self, page: Page) -> None:
        """Print the findings for people."""
        findings = [finding for finding in self.findings if finding.section != "self-test"]
        page.findings(findings)
        if self.test is not None:
            page.table(
                "Self-test: idle, physics, matrix products", self.test.rows(), [self.test.reading.describe()]
            )
        page.findings(finding for finding in self.findings if finding.section == "self-test")
        if self.figures:
            from factory.diagnosis import crosscheck

            rows = [figure.row() for figure in self.figures]
            notes = [*crosscheck.compare(self.figures), "", *crosscheck.explain(self.figures)]
            page.table("Cross-check: mean power of the same load", rows, notes)


def diagnose(cfg: DoctorConfig) -> Diagnosis:
    """Look at everything, and run the self-test unless `cfg.seconds` is 0."""
    # A mistake on the command line is answered before these load torch and MuJoCo.
    import torch

    from factory.diagnosis import actuate, crosscheck, machine, measure, selftest, simulate, tracker_store

    host = machine.find_host()
    device = cfg.device
    if device == "auto":
        if torch.cuda.is_available():
            device = "cuda"
        else:
            device = "cpu"
    rapl_root = Path(cfg.energy.rapl_root)
    findings = [
        *look("machine", lambda: machine.examine(host)),
        *look("simulate", lambda: simulate.examine(host)),
        *look("draw", lambda: simulate.examine_drawing(host)),
        *look("measure", lambda: measure.examine(cfg.energy, host, device=device)),
        *look("actuate", lambda: actuate.examine(host, rapl_root=rapl_root)),
        *look("tracking", lambda: tracker_store.examine(Path(cfg.output_root), cfg.tracking)),
    ]
    if not cfg.seconds:
        return Diagnosis(findings=findings, test=None, figures=[])
    watchers, figures = crosscheck.monitors() if cfg.crosscheck else ([], [])
    try:
        with crosscheck.watching(watchers) as seen:
            test = selftest.run(cfg.energy, device, seconds=cfg.seconds)
    except Exception as error:  # a load that fails is a finding too
        failed = Finding(section="self-test", name="load", status=Status.MISSING, text=f"it failed: {error}")
        return Diagnosis(findings=[*findings, failed], test=None, figures=figures)
    findings += look("self-test", lambda: selftest.judge(test))
    if cfg.crosscheck:
        figures = [crosscheck.own_measurement(test.reading), *seen, *figures]
    else:
        figures = []
    return Diagnosis(findings=findings, test=test, figures=figures)


def _plain(test: SelfTest) -> dict[str, Any]:
    reading = test.reading
    return {
        "tier": reading.tier,
        "boundary": reading.boundary,
        "total_j_interval": nan_to_none([reading.total_j_lo, reading.total_j_hi]),
        "overhead_s": reading.overhead_s,
        "lost_s": reading.lost_s,
        "parts": test.rows(),
    }


def _waiting(cfg: DoctorConfig) -> AbstractContextManager[Any]:
    """Show on a terminal that it works: looking takes seconds, the self-test its time."""
    err = Console(stderr=True)
    if cfg.seconds:
        text = f"looking, then a load for {cfg.seconds:g} s ..."
    else:
        text = "looking ..."
    if err.is_terminal:
        return err.status(text)
    return nullcontext()


def run_doctor(arguments: Sequence[str]) -> None:
    """Parse, look, print.

    Raises:
        ValueError, OmegaConfBaseException: the command line is wrong.
    """
    cfg = cli.parse(DoctorConfig, [_FLAGS.get(argument, argument) for argument in arguments])
    with _waiting(cfg):
        diagnosis = diagnose(cfg)
    if cfg.json:
        print(diagnosis.to_json())
    else:
        diagnosis.print(Page(Console(highlight=False)))


def main() -> None:
    """Examine this machine."""
    if cli.prints_info(__doc__):
        return
    with cli.one_line_errors():
        run_doctor(sys.argv[1:])


if __name__ == "__main__":
    main()
