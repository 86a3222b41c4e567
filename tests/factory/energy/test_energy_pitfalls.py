"""Known ways in which energy meters go wrong, each with a test; those of one source stand with it."""

from __future__ import annotations

import multiprocessing
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from energy_fakes import Clock, FakeCgroup, FakeGpu, FakeNvml, PowerSource, RaplTree

from factory.energy.channel import Channel
from factory.energy.config import EnergyConfig, SiteConfig
from factory.energy.kpi import joules_per_token, usd_electricity_per_mtoken
from factory.energy.meter import Meter
from factory.energy.selection import select_sources
from factory.energy.sources.estimate import EstimateSource
from factory.energy.sources.nvml import NvmlSource
from factory.energy.sources.rapl import RaplSource
from factory.energy.types import Tier


def test_z1_total_holds_every_component() -> None:
    """A CPU-only run is not 0 J, and a GPU run's total holds CPU and memory."""
    clock = Clock()
    sources = [PowerSource(clock, power, component=name) for name, power in (("cpu", 50.0), ("gpu", 300.0))]
    for chosen, total_j in ((sources[:1], 50.0), (sources, 350.0)):
        meter = Meter(chosen, clock_ns=clock)
        meter.start()
        clock.advance(1.0)
        assert meter.read().total_j == pytest.approx(total_j)


def test_z4_metering_spawns_no_process(tmp_path: Path) -> None:
    """Wraps are followed by one thread of this process, which ends with the meter."""
    tree = RaplTree(tmp_path, Clock())
    tree.add("intel-rapl:0", "package-0", 50.0)
    threads = threading.active_count()
    meter = Meter([RaplSource(tree.root, tree.clock, run_share=1.0)], clock_ns=tree.clock)
    meter.start()
    assert threading.active_count() == threads + 1
    assert multiprocessing.active_children() == []
    meter.close()
    assert threading.active_count() == threads


def test_z5_wall_clock_steps_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A corrected system time changes no duration and no power."""
    meter = Meter()
    meter.start()
    monkeypatch.setattr(time, "time", lambda: -1e9)
    monkeypatch.setattr(time, "time_ns", lambda: -(10**18))
    reading = meter.read()
    assert 0.0 <= reading.wall_s < 60.0


def test_z7_sources_ask_for_no_busy_polling(tmp_path: Path) -> None:
    """The shortest period any source asks for is a tenth of a second."""
    tree = RaplTree(tmp_path, Clock())
    tree.add("intel-rapl:0", "package-0", 50.0)
    lib = FakeNvml(tree.clock, [FakeGpu("GPU-a", 300.0)])
    lib.missing.add("nvmlDeviceGetTotalEnergyConsumption")
    for source in (RaplSource(tree.root, tree.clock, run_share=1.0), NvmlSource(lib, tree.clock, environ={})):
        assert (source.open().poll_s or 1.0) >= 0.1


def test_z8_integration_covers_flat_spans_and_both_edges() -> None:
    """Integrated power counts from the opening to the last read, changed or not."""
    clock = Clock()
    lib = FakeNvml(clock, [FakeGpu("GPU-a", 250.0)])
    lib.missing.add("nvmlDeviceGetTotalEnergyConsumption")
    source = NvmlSource(lib, clock, environ={})
    source.open()
    for _ in range(37):
        clock.advance(0.1)
        reading = source.read()
    assert reading.cumulative_j == pytest.approx(3.7 * 250.0)


def test_sampled_power_is_polled_while_a_phase_lasts() -> None:
    """Integrated power needs readings inside a long phase; the meter's thread takes them, and they count."""
    lib = FakeNvml(Clock(), [FakeGpu("GPU-a", 100.0)])
    lib.missing.add("nvmlDeviceGetTotalEnergyConsumption")
    source = NvmlSource(lib, lib.clock, environ={})
    meter = Meter([source], clock_ns=lib.clock)
    meter.start()
    calls = lib.num_calls
    deadline_s = time.monotonic() + 5.0
    with meter.phase("learn"):
        while lib.num_calls < calls + 3 and time.monotonic() < deadline_s:
            lib.clock.advance(0.01)
            time.sleep(0.01)
    meter.close()
    assert lib.num_calls >= calls + 3
    assert meter.read().phase_j["learn"] > 0.0


def test_z9_no_limit_and_no_mode_is_ever_set(tmp_path: Path) -> None:
    """Metering asks NVML for nothing that sets, and leaves every file of the powercap tree as it was."""
    asked: list[str] = []

    class Overheard(FakeNvml):
        def __getattribute__(self, name: str) -> object:
            asked.append(name)
            return super().__getattribute__(name)

    tree = RaplTree(tmp_path, Clock())
    tree.add("intel-rapl:0", "package-0", 50.0)
    limit = tree.root / "intel-rapl:0" / "constraint_0_power_limit_uw"
    limit.write_text("125000000\n")
    before = {path: path.read_bytes() for path in tree.root.rglob("*") if path.is_file()}
    lib = Overheard(tree.clock, [FakeGpu("GPU-a", 300.0)])
    meter = Meter(
        [RaplSource(tree.root, tree.clock, run_share=1.0), NvmlSource(lib, tree.clock, environ={})],
        clock_ns=tree.clock,
    )
    meter.start()
    meter.read()
    meter.close()
    assert "nvmlDeviceGetTotalEnergyConsumption" in asked
    assert not [name for name in asked if "Set" in name]
    assert {path: path.read_bytes() for path in tree.root.rglob("*") if path.is_file()} == before


def test_c7_pue_is_applied_once_and_to_cost_only() -> None:
    """Doubling PUE doubles the bill and moves no joule."""
    energy_j, tokens = 7.2e6, 1_000_000
    figure = joules_per_token(energy_j, tokens=tokens)
    one, two = (usd_electricity_per_mtoken(figure, pue=pue, price_usd_per_kwh=0.1) for pue in (1.0, 2.0))
    assert two == pytest.approx(2.0 * one)
    assert one == pytest.approx(0.2)
    for pue in (1.0, 2.0):
        clock = Clock()
        cfg = EnergyConfig(site=SiteConfig(pue=pue), source="null")
        source = EstimateSource(cfg.estimate, clock, cgroup=FakeCgroup(), num_cores=1.0)
        source.open()
        clock.advance(1.0)
        assert source.read().components_j["cpu"] == pytest.approx(0.74)


def test_c8_metering_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No source looks anything up elsewhere."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("network used")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    meter = Meter.from_config(EnergyConfig(rapl_root=str(tmp_path)), "cpu")
    meter.start()
    meter.close()
    assert meter.read().tier == "estimated"


def test_import_is_light() -> None:
    """Importing the meter loads neither torch nor pynvml nor numpy."""
    code = (
        "import sys; import factory.energy.meter, factory.energy.kpi, factory.energy.tokens; "
        "heavy = {'torch', 'pynvml', 'numpy', 'psutil', 'mlflow'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("tier", list(Tier))
def test_the_word_measured_is_said_of_counters_only(tier: Tier) -> None:
    """In nothing a reading says of another tier does the word appear."""
    clock = Clock()
    meter = Meter([PowerSource(clock, 10.0, tier=tier)], clock_ns=clock)
    meter.start()
    clock.advance(1.0)
    reading = meter.read()
    said = " ".join([reading.describe(), repr(reading), *reading.metrics()])
    assert ("measured" in said) == (tier is Tier.MEASURED)


def test_the_word_measured_is_absent_where_nothing_is() -> None:
    """What a machine without counters is told about its figures never says measured."""
    selection = select_sources(EnergyConfig(rapl_root="/nowhere"), "cpu", environ={})
    assert selection.explanation
    assert "measured" not in " ".join(selection.explanation)


def test_description_never_lacks_tier_bounds_and_losses() -> None:
    """The one-line figure carries its tier, interval, boundary and hole."""
    clock = Clock()
    source = PowerSource(clock, 10.0)
    meter = Meter([source], clock_ns=clock)
    meter.start()
    clock.advance(100.0)
    assert meter.read().describe() == "1000 J [900, 1100] measured (package)"
    source.error = OSError("gone")
    clock.advance(2.0)
    assert "estimated (package, 2 s lost)" in meter.read().describe()


def test_tiers_are_ordered_by_trust() -> None:
    """The worst tier wins, whatever the order, and nothing is worse than nothing."""
    assert Tier.worst([Tier.SAMPLED, Tier.ESTIMATED, Tier.MEASURED]) is Tier.ESTIMATED
    assert Tier.worst([Tier.REPLAYED, Tier.CALIBRATED]) is Tier.REPLAYED
    assert Tier.worst([]) is Tier.NONE


def test_channel_names_the_failure() -> None:
    """What broke is kept in the source's own words."""
    clock = Clock()
    source = PowerSource(clock, 10.0)
    channel = Channel(source)
    channel.start(clock())
    source.error = OSError("device fell off")
    channel.read(clock())
    assert channel.failure == "fake-cpu: device fell off"
