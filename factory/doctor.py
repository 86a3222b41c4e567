"""Check this machine: simulation, drawing, energy metering, power control, tracking. Name remedies for gaps.

usage: python -m factory.doctor [seconds=10] [--crosscheck] [--json] [device=auto|cpu|cuda]
                                [output_root=outputs] [energy.<key>=...] [tracking.<key>=...]
                                [plugins=[<file.py>,...]]

  seconds       length of the self-test, a real load under the run's own meter; 0 skips it
  --crosscheck  let Zeus and CodeCarbon, if installed, measure the same load, and explain the differences
  --json        print one JSON object for programs instead of the page
  energy.*, tracking.*   as for factory.train, e.g. energy.rapl_root=/rapl or tracking.uri=http://server:5000
  plugins       Python files with energy sources of your own, which are checked, too

Nothing is changed, installed or written, with two exceptions: MLflow runs whose process was killed are closed
as KILLED, and settings of a GPU that a killed process left changed are put back. The exit status is 0 if the
checks ran, even if something is missing, and 2 for a mistake on the command line. docs/doctor.md explains the
findings.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from factory import cli
from factory.diagnosis.finding import Finding, Status, look
from factory.diagnosis.show import Page
from factory.energy.config import EnergyConfig
from factory.reporting.waiting import waiting
from factory.runtime import provenance, strict_json
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
    """Length of the self-test [s]; 0 skips it."""
    crosscheck: bool = False
    """Let Zeus and CodeCarbon measure the self-test."""
    json: bool = False
    """Print JSON instead of a page."""
    device: str = "auto"
    """Device of the self-test and of the described run; `auto` is `cuda` if torch can use it."""
    output_root: str = "outputs"
    """Folder of future runs, whose place and disk are checked."""
    energy: EnergyConfig = field(default_factory=EnergyConfig)
    """Settings of the energy sources."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Settings of the experiment tracker."""
    plugins: list[str] = field(default_factory=list)
    """Python files that register energy sources."""

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
    """All results of the examination."""

    findings: list[Finding]
    test: SelfTest | None
    measurements: list[Measurement]
    """The factory's measurement of the load, then those of other tools; empty without a cross-check."""

    def to_json(self) -> str:
        """Return the findings for programs."""
        self_test = None
        if self.test is not None:
            self_test = _plain(self.test)
        content = {
            "schema": SCHEMA,
            "versions": provenance.versions(),
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "self_test": self_test,
            "crosscheck": [measurement.row() for measurement in self.measurements],
        }
        return strict_json.dumps(content)

    def print(self, page: Page) -> None:
        """Print the findings for people."""
        findings = [finding for finding in self.findings if finding.section != "self-test"]
        page.findings(findings)
        if self.test is not None:
            page.table(
                "Self-test: idle, physics, matrix products", self.test.rows(), [self.test.reading.describe()]
            )
        page.findings(finding for finding in self.findings if finding.section == "self-test")
        if self.measurements:
            from factory.diagnosis import crosscheck

            # Watts instead of joules: the windows of the tools differ a little in length.
            rows = [measurement.row() for measurement in self.measurements]
            notes = [*crosscheck.compare(self.measurements), "", *crosscheck.explain(self.measurements)]
            page.table("Cross-check: mean power of the same load", rows, notes)


def diagnose(cfg: DoctorConfig) -> Diagnosis:
    """Run all checks, and the self-test unless `cfg.seconds` is 0."""
    with waiting("load torch and MuJoCo", quiet=cfg.json):
        # Imported here: a mistake on the command line is answered before these are loaded.
        import torch

        from factory.diagnosis import (
            actuate,
            killed_runs,
            machine,
            measure,
            neighbours,
            simulate,
            tracker_store,
        )

    host = machine.find_host()
    device = cfg.device
    if device == "auto":
        if torch.cuda.is_available():
            device = "cuda"
        else:
            device = "cpu"

    def check(section: str, work: Callable[[], Sequence[Finding]]) -> list[Finding]:
        # One check that fails must not hide what the others find.
        with waiting(f"check: {section}", quiet=cfg.json):
            return look(section, work)

    rapl_root = Path(cfg.energy.rapl_root)
    output_root = Path(cfg.output_root)
    findings = [
        *check("machine", lambda: machine.examine(host)),
        *check("simulate", lambda: simulate.examine(host)),
        *check("draw", lambda: simulate.examine_drawing(host)),
        *check("measure", lambda: measure.examine(cfg.energy, host, device=device)),
        *check("measure", lambda: [neighbours.examine()]),
        *check("actuate", lambda: actuate.examine(host, rapl_root=rapl_root)),
        *check("tracking", lambda: tracker_store.examine(output_root, cfg.tracking)),
        *check("tracking", lambda: killed_runs.close(output_root, cfg.tracking)),
    ]
    if not cfg.seconds:
        return Diagnosis(findings=findings, test=None, measurements=[])
    return _run_self_test(cfg, device, findings)


def _run_self_test(cfg: DoctorConfig, device: str, findings: list[Finding]) -> Diagnosis:
    """Return the findings with those of the self-test, and its energy by the tools that were asked for."""
    from factory.diagnosis import crosscheck, selftest

    # The other tools measure the same load at the same time; tools that do not start come last.
    watchers: list[crosscheck.Monitor] = []
    absent: list[Measurement] = []
    if cfg.crosscheck:
        watchers, absent = crosscheck.monitors()
    try:
        load = f"self-test, a load for {cfg.seconds:g} s"
        with waiting(load, quiet=cfg.json), crosscheck.watching(watchers) as seen:
            test = selftest.run(cfg.energy, device, seconds=cfg.seconds)
    # A load that fails is a finding too.
    except Exception as error:
        failed = Finding(section="self-test", name="load", status=Status.MISSING, text=f"it failed: {error}")
        return Diagnosis(findings=[*findings, failed], test=None, measurements=absent)
    # Judged after the load has ended, so that the judgement itself is in nobody's joules.
    findings += look("self-test", lambda: selftest.judge(test))
    measurements: list[Measurement] = []
    if cfg.crosscheck:
        measurements = [crosscheck.own_measurement(test.reading), *seen, *absent]
    return Diagnosis(findings=findings, test=test, measurements=measurements)


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


def run_doctor(arguments: Sequence[str]) -> None:
    """Run the checks that the command line selects, and print the results.

    Raises:
        ValueError, OmegaConfBaseException: the command line is wrong.
    """
    cfg = cli.parse(DoctorConfig, [_FLAGS.get(argument, argument) for argument in arguments])
    diagnosis = diagnose(cfg)
    if cfg.json:
        print(diagnosis.to_json())
    else:
        diagnosis.print(Page(Console(highlight=False)))


def main() -> None:
    """Examine this machine."""
    if cli.prints_info(__doc__):
        return
    cli.show_warnings()
    with cli.one_line_errors():
        run_doctor(sys.argv[1:])


if __name__ == "__main__":
    main()
