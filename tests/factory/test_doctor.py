"""The doctor: every finding says what is there, why something is missing, and a remedy that can help."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from energy_fakes import Clock, FakeGpu, FakeNvml, NVMLError, RaplTree
from rich.console import Console

from factory import cli, doctor
from factory.diagnosis import actuate, crosscheck, machine, measure, selftest, tracker_store
from factory.diagnosis.crosscheck import Measurement
from factory.diagnosis.finding import Finding, Status, look
from factory.diagnosis.machine import HostEnvironment
from factory.diagnosis.show import Page
from factory.doctor import DoctorConfig
from factory.energy.config import EnergyConfig
from factory.energy.sources.calibration import Calibration
from factory.energy.sources.estimate import EstimateConfig
from factory.tracking.config import TrackingConfig

ROOT = Path(__file__).parents[2]
BARE = HostEnvironment()
CONTAINER = HostEnvironment(container="Docker")
VIRTUAL = HostEnvironment(container="Docker", is_virtual=True)
NO_TREE = EnergyConfig(rapl_root="/nonexistent/powercap")


def named(findings: Sequence[Finding], name: str) -> Finding:
    """Return the finding of that name."""
    return next(finding for finding in findings if finding.name.startswith(name))


def run_doctor(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `python -m factory.doctor` as a user does."""
    path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    command = [sys.executable, "-m", "factory.doctor", *arguments]
    return subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path, "MUJOCO_GL": "off"},
    )


@pytest.fixture(scope="module")
def run_without_counters(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Run the doctor once where no counter can be read, self-test left out."""
    folder = tmp_path_factory.mktemp("doctor")
    return run_doctor("seconds=0", "device=cpu", "energy.rapl_root=/nonexistent/powercap", cwd=folder), folder


@pytest.fixture
def rapl(tmp_path: Path) -> Iterator[RaplTree]:
    """Return a powercap tree of one package of 50 W with 5 W of memory."""
    tree = RaplTree(tmp_path / "powercap", Clock())
    tree.add("intel-rapl:0", "package-0", 50.0)
    tree.add("intel-rapl:0/intel-rapl:0:0", "dram", 5.0)
    yield tree


# ---- the command ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_command_without_counters_explains_the_estimate_and_exits_0(
    run_without_counters: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    """With no counter the doctor says what is estimated and why, and has done its work."""
    done, _ = run_without_counters
    assert done.returncode == 0, done.stderr
    assert "CPU and memory joules are estimated" in done.stdout
    assert "no power counter of the CPU is read: no powercap tree at /nonexistent/powercap" in done.stdout
    assert "CPU time" in done.stdout


@pytest.mark.slow
def test_command_without_counters_never_says_measured(
    run_without_counters: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    """The word belongs to hardware counters, and here are none."""
    done, _ = run_without_counters
    assert "measured" not in done.stdout


@pytest.mark.slow
def test_command_writes_nothing(run_without_counters: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    """The folder it is started in stays empty: no store, no output."""
    done, folder = run_without_counters
    assert not list(folder.iterdir())
    assert "is made by the first run" in done.stdout


@pytest.mark.slow
def test_plain_output_is_one_line_for_each_finding_and_each_remedy(
    run_without_counters: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    """What is not a terminal gets no borders and no wrapped lines."""
    lines = run_without_counters[0].stdout.splitlines()
    indented = [line.split()[0] for line in lines if line.startswith(" ")]
    assert set(indented) <= {"ok", "limited", "missing", "->"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("seconds=-1", "seconds=-1.0: must lie between 0 and 3600"),
        ("device=tpu", "device=tpu: choose auto, cpu or cuda"),
        ("seconds=0 --crosscheck", "seconds=0: --crosscheck needs a load"),
        ("--bogus", "--bogus: give key=value"),
        ("energy.source=sun", "energy.source=sun: choose"),
        ("tracking.uri=ftp://ledger", "tracking.uri=ftp://ledger"),
    ],
)
def test_mistake_ends_in_one_line_and_status_2(
    arguments: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad arguments are named in one line before anything is looked at."""
    monkeypatch.setattr(sys, "argv", ["factory-doctor", *arguments.split()])
    with pytest.raises(SystemExit) as exit_info:
        doctor.main()
    out, err = capsys.readouterr()
    assert exit_info.value.code == 2
    assert not out
    assert len(err.splitlines()) == 1
    assert message in err


def test_json_is_one_object_with_findings_self_test_and_crosscheck(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A real, short load: parts add up to the total, the tier is told, every status is known."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MUJOCO_GL", "off")
    arguments = ["--json", "--crosscheck", "seconds=0.5", "device=cpu", "energy.source=estimate"]
    doctor.run_doctor(arguments)
    out, err = capsys.readouterr()
    # Programs may read both streams.
    assert err == ""
    content = json.loads(out)
    assert content["schema"] == doctor.SCHEMA
    assert {found["status"] for found in content["findings"]} <= set(Status)
    assert {found["section"] for found in content["findings"]} == {
        "machine",
        "simulate",
        "draw",
        "measure",
        "actuate",
        "tracking",
        "self-test",
    }
    *parts, total = content["self_test"]["parts"]
    assert content["self_test"]["tier"] == "estimated"
    assert sum(part["joules"] for part in parts) == pytest.approx(total["joules"], rel=1e-9)
    assert content["crosscheck"][0]["tool"] == "factory"
    assert {"sums", "counters", "overhead"} <= {
        found["name"] for found in content["findings"] if found["section"] == "self-test"
    }
    assert named_json(content, "sums")["status"] == "ok"
    assert "not checked" in named_json(content, "power")["text"]


def named_json(content: dict[str, list[dict[str, str]]], name: str) -> dict[str, str]:
    """Return the finding of that name."""
    return next(found for found in content["findings"] if found["name"] == name)


def test_a_check_that_raises_is_a_finding() -> None:
    """A broken library does not hide the rest."""

    def broken() -> list[Finding]:
        raise OSError("driver gone")

    (found,) = look("draw", broken)
    assert (found.section, found.status) == ("draw", Status.MISSING)
    assert "OSError: driver gone" in found.text


# ---- machine ----------------------------------------------------------------------------------------------


def test_place_is_read_from_the_system(tmp_path: Path) -> None:
    """Container, hypervisor and a GPU without driver are recognised."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("flags\t\t: fpu sse hypervisor avx2\n")
    (tmp_path / ".dockerenv").touch()
    for index, (vendor, kind) in enumerate(
        [("0x10de", "0x030200"), ("0x10de", "0x040300"), ("0x8086", "0x030000")]
    ):
        board = tmp_path / f"sys/bus/pci/devices/{index}"
        board.mkdir(parents=True)
        (board / "vendor").write_text(f"{vendor}\n")
        (board / "class").write_text(f"{kind}\n")
    place = machine.find_host(tmp_path, environ={})
    assert (place.container, place.is_virtual, place.nvidia_boards, place.nvidia_driver) == (
        "Docker",
        True,
        1,
        "",
    )
    assert place.words == "a container (Docker) on a virtual machine"


def test_bare_machine_is_recognised(tmp_path: Path) -> None:
    """Nothing found means neither container nor hypervisor; Kubernetes tells itself by its environment."""
    assert machine.find_host(tmp_path, environ={}).words == "a machine of its own"
    assert (
        machine.find_host(tmp_path, environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1"}).container == "Kubernetes"
    )


@pytest.mark.parametrize(
    ("place", "remedy"),
    [
        (HostEnvironment(container="Docker", nvidia_boards=1, nvidia_driver="580.65"), "--gpus all"),
        (HostEnvironment(nvidia_boards=1), "install NVIDIA's driver"),
        (HostEnvironment(), "nothing to do unless you add one"),
        (HostEnvironment(container="Docker"), "nothing to do if the host has none"),
    ],
)
def test_gpu_remedy_fits_what_is_missing(place: HostEnvironment, remedy: str) -> None:
    """A container without the device needs a flag, a machine without driver the driver."""
    assert remedy in machine.nvidia_gap(place)[1]


def test_a_gpu_that_is_given_has_no_gap() -> None:
    """Board, driver and device node: nothing is missing."""
    assert machine.nvidia_gap(
        HostEnvironment(nvidia_boards=1, nvidia_driver="580.65", has_nvidia_node=True)
    ) == (
        "",
        "",
    )


# ---- measure ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "remedy"),
    [
        (VIRTUAL, "nothing inside this machine helps: hypervisors do not pass these counters on"),
        (CONTAINER, "-v /sys/devices/virtual/powercap:/rapl:ro and to the command: energy.rapl_root=/rapl"),
        (BARE, "energy.rapl_root=/nonexistent/powercap is not such a tree"),
        (HostEnvironment(system="Darwin"), "RAPL is read through Linux"),
    ],
)
def test_rapl_remedy_is_the_one_that_can_help_there(place: HostEnvironment, remedy: str) -> None:
    """No mount is advised where the hypervisor hides the counters."""
    found = named(measure.examine(NO_TREE, place, device="cpu"), "RAPL")
    assert found.status is Status.MISSING
    assert remedy in found.remedy


def test_empty_tree_on_a_bare_machine_names_the_kernel_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tree is there, its driver is not."""
    monkeypatch.setattr(EnergyConfig, "rapl_root", str(tmp_path))
    found = named(measure.examine(EnergyConfig(rapl_root=str(tmp_path)), BARE, device="cpu"), "RAPL")
    assert "sudo modprobe intel_rapl_msr" in found.remedy


def test_unreadable_counter_names_the_permission(rapl: RaplTree, monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter for root only is met with the chmod that opens it."""
    from factory.energy.sources import rapl_zones

    def refuse(path: Path) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(rapl_zones, "read_int", refuse)
    found = named(measure.examine(EnergyConfig(rapl_root=str(rapl.root)), CONTAINER, device="cpu"), "RAPL")
    assert found.remedy.startswith("on the host, run 'sudo chmod a+r")


def test_counters_that_read_are_measured_with_boundary_and_period(
    rapl: RaplTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A readable tree gives tier, boundary and update period, and a run here would use it."""
    monkeypatch.setattr("factory.energy.sources.rapl.share_of_host", lambda _: 1.0)
    findings = measure.examine(EnergyConfig(rapl_root=str(rapl.root)), BARE, device="cpu")
    found = named(findings, "RAPL")
    assert found.status is Status.OK
    assert found.facts["tier"] == "measured"
    assert found.facts["boundary"] == "package+dram"
    assert found.facts["period_s"] == 0.001
    assert named(findings, "a run here").facts == {"tier": "measured", "sources": ["rapl"], "device": "cpu"}


def test_counters_of_a_machine_shared_with_others_are_limited(
    rapl: RaplTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a part of the machine's threads nothing is called measured, and the reason is said."""
    monkeypatch.setattr("factory.energy.sources.rapl.share_of_host", lambda _: 0.25)
    findings = measure.examine(EnergyConfig(rapl_root=str(rapl.root)), BARE, device="cpu")
    found = named(findings, "RAPL")
    assert (found.status, found.facts["tier"]) == (Status.LIMITED, "shared")
    assert "this run has 25 % of the machine's hardware threads" in found.text
    assert named(findings, "a run here").facts["tier"] == "shared"
    assert "measured" not in found.text + named(findings, "a run here").text


def test_gpu_without_gauge_is_said_to_be_in_no_figure() -> None:
    """A run on a GPU that nothing meters is told so."""
    found = named(measure.examine(EnergyConfig(source="estimate"), BARE, device="cuda"), "a run here")
    assert "the energy of the GPU is in no metric" in found.text
    assert found.status is Status.LIMITED


def test_calibrated_run_is_not_said_to_use_published_means() -> None:
    """With a calibration the doctor names the outside meter and promises the word calibrated."""
    calibration = Calibration(
        idle_w_per_core=1.0, max_w_per_core=4.0, relative_u=0.02, origin="the plug in the hall"
    )
    cfg = EnergyConfig(rapl_root="/nonexistent", estimate=EstimateConfig(calibration=calibration))
    found = named(measure.examine(cfg, VIRTUAL, device="cpu"), "a run here")
    assert found.facts["tier"] == "calibrated"
    assert "the plug in the hall" in found.text and "labelled calibrated" in found.text
    assert "published" not in found.text and "estimated" not in found.text


def test_nvml_board_is_listed_with_its_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A board with an energy counter is measured at its device boundary."""
    nvml = FakeNvml(Clock(), [FakeGpu("GPU-1", 300.0)])
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    found = named(measure.examine(NO_TREE, BARE, device="cpu"), "NVML")
    assert (found.status, found.facts["tier"], found.facts["counters"]) == (Status.OK, "measured", ["GPU-1"])
    assert nvml.num_inits == 0


def test_source_that_cannot_be_used_is_said_to_stop_a_run() -> None:
    """`energy.source=rapl` without RAPL: no run starts, and the doctor still looks."""
    found = named(
        measure.examine(EnergyConfig(source="rapl", rapl_root="/nonexistent"), VIRTUAL, device="cpu"), "a run"
    )
    assert found.status is Status.MISSING
    assert "no run can start" in found.text


# ---- actuate ----------------------------------------------------------------------------------------------


def test_power_limit_is_read_through_the_links_of_sysfs(tmp_path: Path) -> None:
    """A package's limit is shown once, in watts, and stays as it was."""
    package = tmp_path / "devices/intel-rapl/intel-rapl:0"
    package.mkdir(parents=True)
    values = {
        "name": "package-0",
        "constraint_0_power_limit_uw": "125000000",
        "constraint_0_max_power_uw": "150000000",
    }
    for name, value in values.items():
        (package / name).write_text(f"{value}\n")
    root = tmp_path / "powercap"
    root.mkdir()
    (root / "intel-rapl:0").symlink_to(package)
    found = named(actuate.examine(BARE, rapl_root=root, sys_root=tmp_path), "CPU power limit")
    assert found.status is Status.OK
    assert found.text == "may be set: intel-rapl:0 125 W of at most 150 W"
    assert (package / "constraint_0_power_limit_uw").read_text() == "125000000\n"


def test_governor_is_shown_with_its_choices(tmp_path: Path) -> None:
    """The frequency governor, what else there is, and the range."""
    folder = tmp_path / "devices/system/cpu/cpu0/cpufreq"
    folder.mkdir(parents=True)
    values = {
        "scaling_governor": "powersave",
        "scaling_available_governors": "performance powersave",
        "cpuinfo_min_freq": "800000",
        "cpuinfo_max_freq": "3600000",
    }
    for name, value in values.items():
        (folder / name).write_text(f"{value}\n")
    found = named(actuate.examine(BARE, rapl_root=tmp_path, sys_root=tmp_path), "CPU frequency")
    assert "governor powersave of performance, powersave, 0.8 to 3.6 GHz" in found.text


def test_virtual_machine_is_told_that_the_hypervisor_hides_the_settings(tmp_path: Path) -> None:
    """No command inside is advised where none can work."""
    findings = actuate.examine(VIRTUAL, rapl_root=tmp_path, sys_root=tmp_path)
    for name in ("CPU power limit", "CPU frequency"):
        assert "the hypervisor hides this setting" in named(findings, name).remedy


@pytest.mark.parametrize(("is_admin", "status"), [(True, Status.OK), (False, Status.LIMITED)])
def test_gpu_limits_are_shown_and_not_touched(
    is_admin: bool, status: Status, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Limit and range of a board are read; the fake has no setter that could be called."""
    nvml = FakeNvml(Clock(), [FakeGpu("GPU-1", 300.0, limit_w=700.0)])
    nvml.nvmlDeviceGetPowerManagementLimitConstraints = lambda handle: [200_000, 700_000]
    monkeypatch.setattr(actuate, "_is_admin", lambda: is_admin)
    found = named(actuate.examine(BARE, rapl_root=tmp_path, sys_root=tmp_path, nvml=nvml), "GPU power limit")
    assert found.status is status
    assert "power limit 700 W of 200 to 700 W" in found.text
    assert nvml.num_inits == 0


def test_nvml_without_driver_is_no_error(tmp_path: Path) -> None:
    """The package without a driver: missing, with its words."""
    nvml = FakeNvml(Clock(), [])
    nvml.errors["nvmlInit"] = NVMLError("Driver Not Loaded")
    found = named(actuate.examine(BARE, rapl_root=tmp_path, sys_root=tmp_path, nvml=nvml), "GPU power limit")
    assert (found.status, "Driver Not Loaded" in found.text) == (Status.MISSING, True)


# ---- ledger -----------------------------------------------------------------------------------------------


def test_file_that_is_no_store_is_found_out_and_left_alone(tmp_path: Path) -> None:
    """A file of that name that is no database gets a remedy and stays as it is."""
    (tmp_path / "mlflow.db").write_text("not a database, but long enough to be taken for one" * 10)
    before = (tmp_path / "mlflow.db").read_bytes()
    found = named(tracker_store.examine(tmp_path, TrackingConfig()), "MLflow store")
    assert found.status is Status.MISSING
    assert (tmp_path / "mlflow.db").read_bytes() == before


def test_output_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "file").touch()
    assert (
        named(tracker_store.examine(tmp_path / "file/below", TrackingConfig(kind="null")), "output").status
        is Status.MISSING
    )


def test_server_is_asked_and_its_absence_is_no_obstacle() -> None:
    """A server that answers is ok, one that does not only limits."""
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    port = server.server_port
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    answering = named(
        tracker_store.examine(Path(), TrackingConfig(uri=f"http://127.0.0.1:{port}")), "MLflow store"
    )
    thread.join(60.0)
    server.server_close()
    away = named(
        tracker_store.examine(Path(), TrackingConfig(uri=f"http://user:secret@127.0.0.1:{port}")),
        "MLflow store",
    )
    assert (answering.status, away.status) == (Status.OK, Status.LIMITED)
    assert "secret" not in away.text


# ---- self-test and cross-check ----------------------------------------------------------------------------


def reading(energy_j: float, *, tier: str = "measured", wall_s: float = 10.0) -> SimpleNamespace:
    """Return what the judges look at: the CPU's joules at a time, all in the phase `sim`."""
    return SimpleNamespace(
        total_j=energy_j,
        components_j={"cpu": energy_j},
        wall_s=wall_s,
        cpu_s=wall_s,
        tier=tier,
        component_tier={"cpu": tier},
        phase_j={"sim": energy_j},
        phase_s={"sim": wall_s},
        unattributed_j=0.0,
        unattributed_s=0.0,
        overhead_s=0.001,
        lost_s=0.0,
    )


def judged(name: str, *, joules: Sequence[float], tier: str = "measured") -> Finding:
    """Return one judgement on a test whose marks stand at these joules, 10 s apart."""
    marks = tuple(reading(value, tier=tier, wall_s=10.0 * index) for index, value in enumerate(joules))
    test = SimpleNamespace(reading=marks[-1], marks=marks, lowest_w_per_core=0.37, highest_w_per_core=10.0)
    check = {"sums": lambda: selftest._sum(marks[-1]), "counters": lambda: selftest._advance(test)}
    return check.get(name, lambda: selftest._plausible(test))()


def test_counter_that_stands_still_is_noticed() -> None:
    """A counter has to rise in every part."""
    assert judged("counters", joules=[0.0, 10.0, 20.0, 30.0]).status is Status.OK
    stuck = judged("counters", joules=[0.0, 10.0, 10.0, 30.0])
    assert (stuck.status, "cpu stood still" in stuck.text) == (Status.LIMITED, True)


def test_sum_that_does_not_hold_is_noticed() -> None:
    """Joules in no phase and not in the rest are a broken meter."""
    whole = reading(100.0)
    assert selftest._sum(whole).status is Status.OK
    whole.phase_j["sim"] = 99.0
    assert selftest._sum(whole).status is Status.MISSING


def test_power_is_judged_by_the_threads_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight threads may draw 3 to 80 W; an estimate is not checked against its own coefficients."""
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert judged("power", joules=[0.0, 100.0, 500.0, 900.0]).status is Status.OK
    assert judged("power", joules=[0.0, 100.0, 5000.0, 9000.0]).status is Status.LIMITED
    assert "not checked" in judged("power", joules=[0.0, 100.0, 500.0, 900.0], tier="estimated").text


def test_tools_are_compared_by_power_component_by_component() -> None:
    """Windows differ, so watts are compared; what a tool does not know is left out."""
    own = Measurement(tool="factory", seconds=10.0, components_j={"cpu": 100.0, "dram": 10.0})
    other = Measurement(tool="Other", seconds=20.0, components_j={"cpu": 400.0})
    blind = Measurement(tool="Blind", seconds=10.0)
    (line,) = crosscheck.compare([own, other, blind])
    assert line.startswith("Other: cpu 20 W")
    assert "2 times" in line
    assert blind.row()["total_j"] is None


def test_reasons_are_said_once_below_their_tool() -> None:
    """Two modes of one tool share reasons."""
    figures = [Measurement(tool="A", reasons=("same", "one")), Measurement(tool="B", reasons=("same", "two"))]
    assert crosscheck.explain(figures) == ["A:", "- same", "- one", "B:", "- two"]


def test_tools_that_are_not_installed_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for each, whatever its number of modes."""
    monkeypatch.setattr(crosscheck, "find_spec", lambda name: None)
    opened, absent = crosscheck.monitors()
    assert not opened
    assert [(figure.tool, figure.reasons) for figure in absent] == [
        ("Zeus", ("not installed: pip install zeus",)),
        ("CodeCarbon", ("not installed: pip install codecarbon",)),
    ]


def test_terminal_gets_panels_of_a_hundred_columns(tmp_path: Path) -> None:
    """On a wide terminal the panels keep their width, and every remedy is shown."""
    console = Console(force_terminal=True, width=180, record=True, file=(tmp_path / "out").open("w"))
    found = Finding(
        section="draw", name="renderer", status=Status.LIMITED, text="word " * 60, remedy="do this"
    )
    Page(console).findings([found])
    text = console.export_text()
    assert max(len(line) for line in text.splitlines()) == 100
    assert "-> do this" in text


def test_settings_are_those_of_training() -> None:
    """Keys of the groups energy and tracking mean what they mean to factory.train."""
    cfg = cli.parse(DoctorConfig, ["energy.rapl_root=/rapl", "tracking.kind=jsonl"])
    assert (cfg.energy.rapl_root, cfg.tracking.kind) == ("/rapl", "jsonl")
