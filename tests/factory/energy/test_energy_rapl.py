"""RaplSource on a powercap tree driven from a known P(t): every joule once, none invented."""

from __future__ import annotations

import os
import random
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import pytest
from energy_fakes import Clock, PowerTrace, RaplTree
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.energy import cgroup
from factory.energy.sources.base import SourceError, SourceUnavailable
from factory.energy.sources.rapl import RaplSource
from factory.energy.types import Boundary, Tier

AMD_RANGE_UJ = 65_532_610_987


@pytest.fixture
def tree(tmp_path: Path) -> RaplTree:
    """Return a machine with one package of 50 W."""
    tree = RaplTree(tmp_path, Clock())
    tree.add("intel-rapl:0", "package-0", 50.0)
    return tree


def opened(tree: RaplTree) -> RaplSource:
    """Open a source on the tree."""
    source = RaplSource(tree.root, tree.clock, run_share=1.0)
    source.open()
    return source


@given(
    powers_w=st.lists(st.integers(1, 400), min_size=1, max_size=8),
    steps_ms=st.lists(st.integers(20, 60_000), min_size=3, max_size=20),
    start_uj=st.integers(1, AMD_RANGE_UJ),
)
def test_energy_is_exact_for_any_power_through_any_wrap(
    powers_w: list[int], steps_ms: list[int], start_uj: int
) -> None:
    """For any P(t), start value and read times within a wrap, energy is exact to 1e-9."""
    with TemporaryDirectory() as folder:
        tree = RaplTree(Path(folder), Clock())
        traces = [PowerTrace([(17.0, w) for w in powers_w]), PowerTrace([(23.0, w) for w in powers_w[::-1]])]
        for socket, trace in enumerate(traces):
            zone = f"intel-rapl:{socket}"
            tree.add(
                zone, f"package-{socket}", trace, start_uj=start_uj // (socket + 1), range_uj=AMD_RANGE_UJ
            )
        source = opened(tree)
        for step_ms in steps_ms:
            tree.advance(step_ms * 1e-3)
            reading = source.read()
        truth_j = sum(trace.energy_j(tree.clock.now_s) for trace in traces)
        assert reading.cumulative_j == pytest.approx(truth_j, rel=1e-9)
        assert reading.lost_s == 0.0
        assert reading.lo_j <= truth_j <= reading.hi_j


def test_wrap_around_is_exact(tmp_path: Path) -> None:
    """A counter that passes its maximum once between two reads loses nothing."""
    tree = RaplTree(tmp_path, Clock())
    tree.add("intel-rapl:0", "package-0", 300.0, start_uj=999_999_999, range_uj=10**9)
    source = RaplSource(tree.root, tree.clock, max_power_w=400.0, run_share=1.0)
    source.open()
    tree.advance(2.0)
    assert source.read().cumulative_j == pytest.approx(600.0, rel=1e-9)


def test_double_wrap_is_lost_not_guessed(tmp_path: Path) -> None:
    """A gap that may hide two wraps adds to the lost time, no joules, and counting goes on."""
    tree = RaplTree(tmp_path, Clock())
    tree.add("intel-rapl:0", "package-0", 300.0, range_uj=10**9)
    source = RaplSource(tree.root, tree.clock, max_power_w=400.0, run_share=1.0)
    source.open()
    tree.advance(8.0)
    lost = source.read()
    tree.advance(1.0)
    after = source.read()
    assert (lost.cumulative_j, lost.lost_s) == (0.0, 8.0)
    assert after.cumulative_j == pytest.approx(300.0, rel=1e-9)
    assert after.lost_s == 8.0


def test_c4_long_interval_of_a_32_bit_counter_is_polled_in_time(tmp_path: Path) -> None:
    """The source asks to be read before a 32-bit counter can wrap, here after 234 s at 280 W."""
    tree = RaplTree(tmp_path, Clock())
    tree.add("intel-rapl:0", "package-0", 280.0, range_uj=AMD_RANGE_UJ)
    source = RaplSource(tree.root, tree.clock, run_share=1.0)
    poll_s = source.open().poll_s
    assert poll_s is not None
    for _ in range(30):
        tree.advance(poll_s)
        reading = source.read()
    assert reading.cumulative_j == pytest.approx(30 * poll_s * 280.0, rel=1e-9)
    assert 30 * poll_s > 234.0


def test_z2_psys_is_never_added(tree: RaplTree) -> None:
    """`psys` holds the packages already; it is no second CPU."""
    tree.add("intel-rapl:1", "psys", 90.0)
    source = opened(tree)
    tree.advance(10.0)
    assert source.read().cumulative_j == pytest.approx(500.0, rel=1e-9)


def test_core_and_uncore_are_inside_the_package(tree: RaplTree) -> None:
    """Parts of a package add nothing to it."""
    tree.add("intel-rapl:0/intel-rapl:0:0", "core", 30.0)
    tree.add("intel-rapl:0/intel-rapl:0:1", "uncore", 5.0)
    source = opened(tree)
    tree.advance(10.0)
    assert source.read().components_j == {"cpu": pytest.approx(500.0, rel=1e-9)}


def test_mmio_duplicates_are_left_out(tree: RaplTree) -> None:
    """The same package through MMIO is the same package, whatever its counter shows."""
    tree.add("intel-rapl-mmio:0", "package-0", 50.0, start_uj=1)
    tree.add("intel-rapl:0/intel-rapl:0:0", "dram", 8.0)
    tree.add("intel-rapl-mmio:0/intel-rapl-mmio:0:0", "dram", 8.0, start_uj=5)
    source = opened(tree)
    tree.advance(10.0)
    assert source.read().cumulative_j == pytest.approx(580.0, rel=1e-9)


def test_mmio_alone_is_used(tmp_path: Path) -> None:
    """A machine that shows its package through MMIO only is metered all the same."""
    tree = RaplTree(tmp_path, Clock())
    tree.add("intel-rapl-mmio:0", "package-0", 50.0)
    source = opened(tree)
    tree.advance(10.0)
    assert source.read().cumulative_j == pytest.approx(500.0, rel=1e-9)


def test_zones_seen_flat_and_nested_count_once(tree: RaplTree) -> None:
    """/sys/class/powercap shows a nested zone a second time at its top."""
    tree.add("intel-rapl:0/intel-rapl:0:0", "dram", 8.0)
    tree.add("intel-rapl:0:0", "dram", 8.0)
    source = opened(tree)
    tree.advance(10.0)
    assert source.read().components_j["dram"] == pytest.approx(80.0, rel=1e-9)


def test_mirrored_counters_of_a_multi_die_package_count_once(tree: RaplTree) -> None:
    """Two packages that show one register are one."""
    tree.add("intel-rapl:1", "package-1", 50.0)
    source = RaplSource(tree.root, tree.clock, run_share=1.0)
    details = source.open().details
    tree.advance(10.0)
    assert source.read().cumulative_j == pytest.approx(500.0, rel=1e-9)
    assert any("mirrors" in detail for detail in details)


def test_two_sockets_are_no_mirrors(tree: RaplTree) -> None:
    """Packages that count for themselves are both counted, equal power or not."""
    tree.add("intel-rapl:1", "package-1", 50.0, start_uj=9_000_000)
    source = opened(tree)
    tree.advance(10.0)
    assert source.read().cumulative_j == pytest.approx(1000.0, rel=1e-9)


@pytest.mark.parametrize("zone", ["intel-rapl:0/intel-rapl:0:0", "intel-rapl:2"])
def test_c3_z11_dram_nested_or_top_level_is_in_the_total(tree: RaplTree, zone: str) -> None:
    """Memory counts wherever its zone stands."""
    tree.add(zone, "dram", 8.0)
    source = RaplSource(tree.root, tree.clock, run_share=1.0)
    capability = source.open()
    tree.advance(10.0)
    reading = source.read()
    assert capability.boundary is Boundary.PACKAGE_DRAM
    assert reading.cumulative_j == pytest.approx(580.0, rel=1e-9)
    assert reading.components_j["dram"] == pytest.approx(80.0, rel=1e-9)


def test_dram_nested_and_top_level_counts_once(tree: RaplTree) -> None:
    """A top-level view of memory that has nested zones is a second view."""
    tree.add("intel-rapl:0/intel-rapl:0:0", "dram", 8.0)
    tree.add("intel-rapl:2", "dram", 8.0, start_uj=123)
    source = opened(tree)
    tree.advance(10.0)
    assert source.read().components_j["dram"] == pytest.approx(80.0, rel=1e-9)


def test_absent_dram_is_said(tree: RaplTree) -> None:
    """Where no memory counter exists the boundary and the details say so."""
    capability = RaplSource(tree.root, tree.clock, run_share=1.0).open()
    assert capability.boundary is Boundary.PACKAGE
    assert any("dram is not in the total" in detail for detail in capability.details)


def test_suspend_that_resets_the_counter_is_lost(tree: RaplTree) -> None:
    """A counter that went back to zero is no wrap: the step is lost, not 262 kJ."""
    source = opened(tree)
    tree.advance(10.0)
    source.read()
    tree.advance(3.0)
    tree.zones["intel-rapl:0"].reset(tree.clock.now_s)
    after_reset = source.read()
    tree.advance(2.0)
    reading = source.read()
    assert after_reset.cumulative_j == pytest.approx(500.0, rel=1e-9)
    assert reading.cumulative_j == pytest.approx(600.0, rel=1e-9)
    assert reading.lost_s == pytest.approx(3.0)


def test_missing_maximum_drops_backward_steps_only(tmp_path: Path) -> None:
    """Without `max_energy_range_uj` a step back is lost and steps forward count."""
    tree = RaplTree(tmp_path, Clock())
    zone = tree.add("intel-rapl:0", "package-0", 50.0, range_uj=None)
    source = opened(tree)
    tree.advance(4.0)
    assert source.read().cumulative_j == pytest.approx(200.0, rel=1e-9)
    tree.advance(1.0)
    zone.reset(tree.clock.now_s)
    assert source.read().lost_s == pytest.approx(1.0)
    tree.advance(2.0)
    assert source.read().cumulative_j == pytest.approx(300.0, rel=1e-9)


def test_a_lost_zone_does_not_hide_the_others(tree: RaplTree) -> None:
    """When one package resets, the other's joules are kept."""
    tree.add("intel-rapl:1", "package-1", 70.0, start_uj=9_000_000)
    source = opened(tree)
    tree.advance(10.0)
    tree.zones["intel-rapl:0"].reset(tree.clock.now_s)
    reading = source.read()
    assert reading.cumulative_j == pytest.approx(700.0, rel=1e-9)
    assert reading.lost_s == pytest.approx(10.0)


def test_no_permission_is_explained_with_the_remedy(tree: RaplTree, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreadable counter names the file, the reason and the command that helps."""
    read_text = Path.read_text

    def deny(path: Path, *args: object) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path)

    monkeypatch.setattr(Path, "read_text", deny)
    with pytest.raises(SourceUnavailable, match=r"energy_uj cannot be read.*sudo chmod a\+r"):
        opened(tree)


def test_unreadable_dram_leaves_the_packages(tree: RaplTree) -> None:
    """Memory that cannot be read narrows the boundary instead of ending the metering."""
    zone = tree.add("intel-rapl:0/intel-rapl:0:0", "dram", 8.0)
    (zone.folder / "energy_uj").unlink()
    capability = RaplSource(tree.root, tree.clock, run_share=1.0).open()
    assert capability.boundary is Boundary.PACKAGE
    assert any("dram" in detail for detail in capability.details)


@pytest.mark.parametrize("present", [False, True])
def test_no_counters_is_explained(tmp_path: Path, present: bool) -> None:
    """A machine without a tree, or with an empty one, gets a reason and a remedy."""
    root = tmp_path if present else tmp_path / "absent"
    with pytest.raises(SourceUnavailable) as caught:
        RaplSource(root, Clock(), run_share=1.0).open()
    assert caught.value.reason
    assert caught.value.remedy


def test_read_error_in_mid_run_is_a_source_error(tree: RaplTree) -> None:
    """A counter that vanishes raises SourceError, which the meter understands."""
    source = opened(tree)
    (tree.root / "intel-rapl:0" / "energy_uj").unlink()
    with pytest.raises(SourceError):
        source.read()


def test_reopening_sets_a_new_zero(tree: RaplTree) -> None:
    """`open` called again starts from nothing."""
    source = opened(tree)
    tree.advance(10.0)
    source.read()
    source.open()
    tree.advance(1.0)
    assert source.read().cumulative_j == pytest.approx(50.0, rel=1e-9)


def test_interval_holds_the_true_energy_of_an_inexact_counter(tmp_path: Path) -> None:
    """With gain errors nearly as large as declared, at least 95 % of the intervals hold the truth."""
    tree = RaplTree(tmp_path, Clock())
    zone = tree.add("intel-rapl:0", "package-0", 100.0)
    hits: list[bool] = []

    @settings(max_examples=200)
    @given(seed=st.integers(0, 2**32), power_w=st.integers(5, 400), seconds=st.integers(1, 60))
    def trial(seed: int, power_w: int, seconds: int) -> None:
        zone.trace = PowerTrace.constant(power_w * random.Random(seed).gauss(1.0, 0.045))
        zone.write(tree.clock.now_s)
        source = opened(tree)
        tree.advance(seconds)
        hits.append(power_w * seconds in source.read().interval)

    trial()
    assert fmean(hits) >= 0.95


def test_tier_is_measured(tree: RaplTree) -> None:
    """Package counters are hardware counters."""
    assert RaplSource(tree.root, tree.clock, run_share=1.0).open().tier is Tier.MEASURED


def test_packages_of_which_the_run_has_a_part_are_an_upper_bound(tree: RaplTree) -> None:
    """With some of the machine's threads the joules are everybody's: shared, from 0 to the counter's upper
    bound.
    """
    whole = opened(tree)
    source = RaplSource(tree.root, tree.clock, run_share=2 / 64)
    capability = source.open()
    tree.advance(10.0)
    reading = source.read()
    assert (capability.tier, reading.tier) == (Tier.SHARED, Tier.SHARED)
    assert any(
        "this run has 3.12 % of the machine's hardware threads" in detail for detail in capability.details
    )
    assert reading.cumulative_j == pytest.approx(500.0, rel=1e-9)
    assert (reading.lo_j, reading.hi_j) == (0.0, whole.read().hi_j)


@pytest.mark.parametrize(("threads", "tier"), [(2, Tier.MEASURED), (64, Tier.SHARED)])
def test_part_of_the_machine_is_asked_of_the_system(
    tree: RaplTree, monkeypatch: pytest.MonkeyPatch, threads: int, tier: Tier
) -> None:
    """Threads this process may keep busy are held against the machine's, not against those of its
    container.
    """
    monkeypatch.setattr(cgroup, "allocated_cores", lambda _: 2.0)
    monkeypatch.setattr(os, "cpu_count", lambda: threads)
    assert RaplSource(tree.root, tree.clock).open().tier is tier
