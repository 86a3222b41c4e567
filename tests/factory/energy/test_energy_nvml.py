"""NvmlSource on a fake NVML whose counter integrates a known P(t): the truth lies in the interval."""

from __future__ import annotations

import os
import random
import sys
from statistics import fmean

import pytest
from energy_fakes import (
    Clock,
    FakeGpu,
    FakeNvml,
    NVMLError_FunctionNotFound,
    NVMLError_GpuIsLost,
    NVMLError_NotSupported,
    PowerTrace,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.energy.sources.base import SourceError, SourceUnavailable
from factory.energy.sources.nvml import NvmlSource
from factory.energy.sources.nvml_devices import is_own_process
from factory.energy.types import Boundary, Tier

COUNTER = "nvmlDeviceGetTotalEnergyConsumption"


def make(
    *gpus: FakeGpu, environ: dict[str, str] | None = None, indices: list[int] | None = None
) -> tuple[Clock, FakeNvml, NvmlSource]:
    """Return a clock, a library and a source on it for which every process but 1 is its own."""
    clock = Clock()
    lib = FakeNvml(clock, gpus or [FakeGpu("GPU-aaaa", 300.0)])
    source = NvmlSource(
        lib,
        clock,
        environ=environ or {},
        indices=indices,
        is_own_pid=lambda pid: {1: False, 0: None}.get(pid, True),
    )
    return clock, lib, source


def bursty(rng: random.Random, *, seconds: float) -> PowerTrace:
    """Return a load that jumps between idle and full at times that know nothing of the sensor."""
    levels: list[tuple[float, float]] = []
    longest_s = rng.choice([0.05, 0.3, 2.0])
    while sum(duration for duration, _ in levels) < seconds:
        levels.append((rng.uniform(0.005, longest_s), rng.choice([70.0, rng.uniform(70.0, 700.0), 700.0])))
    return PowerTrace(levels)


def coverage(*, duty: float, gain_u: float, missing: str = "", poll_s: float = 20.0) -> float:
    """Return the share of intervals that hold the truth, over random loads, sensor phases and gains."""
    hits: list[bool] = []

    @settings(max_examples=150)
    @given(seed=st.integers(0, 2**32), window_s=st.floats(0.2, 20.0), lead_s=st.floats(0.0, 0.3))
    def trial(seed: int, window_s: float, lead_s: float) -> None:
        rng = random.Random(seed)
        load = bursty(rng, seconds=21.0)
        gpu = FakeGpu("GPU-a", load, duty=duty, gain=rng.gauss(1.0, gain_u), phase_s=-rng.uniform(0.0, 0.1))
        clock, lib, source = make(gpu)
        lib.missing.add(missing)
        clock.advance(lead_s)
        source.open()
        begin_s, left_s = clock.now_s, window_s
        while left_s > poll_s:
            clock.advance(poll_s)
            source.read()
            left_s -= poll_s
        clock.advance(left_s)
        truth_j = load.energy_j(clock.now_s) - load.energy_j(begin_s)
        hits.append(truth_j in source.read().interval)

    trial()
    return fmean(hits)


@pytest.mark.parametrize("duty", [1.0, 0.25])
def test_true_energy_lies_in_the_interval(duty: float) -> None:
    """With gain errors nearly as large as declared, at least 95 % of the intervals hold the true energy."""
    assert coverage(duty=duty, gain_u=0.045) >= 0.95


@pytest.mark.parametrize("duty", [1.0, 0.25])
def test_edges_and_coverage_alone_hold_a_perfect_gain(duty: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the allowance for gain, update period and duty are still covered in at least 95 % of trials."""
    monkeypatch.setattr("factory.energy.sources.nvml_board._GAIN_U", 0.0)
    assert coverage(duty=duty, gain_u=0.0) >= 0.95


def test_true_energy_lies_in_the_interval_of_sampled_power() -> None:
    """Without a counter, power polled every 100 ms holds the truth in at least 95 % of trials, too."""
    assert coverage(duty=1.0, gain_u=0.0, missing=COUNTER, poll_s=0.1) >= 0.95


def test_25_percent_duty_defeats_one_reading_a_second_but_not_the_interval() -> None:
    """Power polled once a second is far off on a fast load; the counter's interval holds the truth."""
    load = PowerTrace([(0.25, 700.0), (0.75, 70.0)] * 20)
    gpu = FakeGpu("GPU-a", load, duty=0.25, phase_s=-0.037)
    clock, lib, source = make(gpu)
    source.open()
    begin_s, polled_j = clock.now_s, 0.0
    for _ in range(20):
        polled_j += lib.nvmlDeviceGetFieldValues(gpu, [(186, 0)])[0].value.uiVal * 1e-3
        clock.advance(1.0)
    truth_j = load.energy_j(clock.now_s) - load.energy_j(begin_s)
    assert polled_j > 2.0 * truth_j
    assert truth_j in source.read().interval


def test_interval_narrows_with_time() -> None:
    """Edges and coverage matter less the longer the window, until the sensor's gain is left."""
    clock, _, source = make()
    source.open()
    widths = []
    for seconds in (1.0, 99.0, 9_900.0):
        clock.advance(seconds)
        reading = source.read()
        widths.append((reading.hi_j - reading.lo_j) / reading.cumulative_j)
    assert widths[0] > widths[1] > widths[2]
    assert widths[2] == pytest.approx(0.2, rel=0.1)


def test_constant_power_is_exact_to_a_tick() -> None:
    """On a constant load the counter is right to one update period."""
    clock, _, source = make()
    capability = source.open()
    clock.advance(100.0)
    reading = source.read()
    assert capability.tier is reading.tier is Tier.MEASURED
    assert capability.boundary is Boundary.DEVICE
    assert reading.components_j["gpu"] == pytest.approx(30_000.0, abs=30.0)


def test_counter_read_needs_no_polling() -> None:
    """A board with an energy counter may be left alone."""
    _, _, source = make()
    assert source.open().poll_s is None


@pytest.mark.parametrize("error", [NVMLError_NotSupported, NVMLError_FunctionNotFound, None])
def test_without_counter_the_power_is_integrated(error: type[Exception] | None) -> None:
    """An unsupported or missing counter falls back to instant power, tier `sampled`, edges included."""
    load = PowerTrace([(1.0, 100.0), (1.0, 500.0), (9.0, 300.0)])
    clock, lib, source = make(FakeGpu("GPU-a", load))
    if error is None:
        lib.missing.add(COUNTER)
    else:
        lib.errors[COUNTER] = error("no")  # type: ignore[assignment]
    capability = source.open()
    begin_s = clock.now_s
    for _ in range(50):
        clock.advance(0.1)
        reading = source.read()
    truth_j = load.energy_j(clock.now_s) - load.energy_j(begin_s)
    assert capability.poll_s == pytest.approx(0.1)
    assert reading.tier is Tier.SAMPLED
    assert reading.cumulative_j == pytest.approx(truth_j, abs=0.1 * 500.0)
    assert truth_j in reading.interval


def test_instant_power_is_preferred_to_the_one_second_mean() -> None:
    """`GetPowerUsage` lags a second on newer boards; it is asked only where the field is missing."""
    load = PowerTrace([(10.0, 100.0), (9.0, 500.0)])
    clock, lib, source = make(FakeGpu("GPU-a", load))
    lib.missing.add(COUNTER)
    clock.advance(10.0)
    source.open()
    clock.advance(0.1)
    assert source.read().cumulative_j == pytest.approx(50.0)
    lib.missing.add("nvmlDeviceGetFieldValues")
    source.open()
    clock.advance(0.1)
    assert source.read().cumulative_j < 25.0


def test_field_that_is_not_valid_is_not_taken() -> None:
    """A field value counts only if its own status says so; else the mean power stands in."""
    clock, lib, source = make(FakeGpu("GPU-a", PowerTrace([(10.0, 100.0), (9.0, 500.0)])))
    lib.missing.add(COUNTER)
    lib.field_status = 3
    clock.advance(10.0)
    source.open()
    clock.advance(0.1)
    assert 0.0 < source.read().cumulative_j < 25.0


def test_power_gap_is_lost() -> None:
    """Two power readings far apart are not joined by a line."""
    clock, lib, source = make()
    lib.missing.add(COUNTER)
    source.open()
    clock.advance(30.0)
    reading = source.read()
    assert (reading.cumulative_j, reading.lost_s) == (0.0, pytest.approx(30.0))


def test_counter_reset_is_lost_and_counting_goes_on() -> None:
    """A counter that went backwards (driver reload) loses that step only."""
    clock, lib, source = make()
    source.open()
    clock.advance(10.0)
    before_j = source.read().cumulative_j
    clock.advance(2.0)
    lib.gpus[0].counter_mj(clock.now_s)
    lib.gpus[0].reset_counter()
    assert source.read().lost_s == pytest.approx(2.0)
    clock.advance(5.0)
    reading = source.read()
    assert reading.cumulative_j == pytest.approx(before_j + 1500.0, abs=31.0)
    assert reading.lost_s == pytest.approx(2.0)


def test_counter_glitch_is_lost() -> None:
    """A jump beyond what the board can draw is no energy."""
    clock, lib, source = make()
    source.open()
    clock.advance(1.0)
    lib.gpus[0]._counter_j += 1e6
    assert source.read().lost_s == pytest.approx(1.0)


def test_error_in_mid_run_is_a_source_error_and_the_past_stays() -> None:
    """A lost board raises SourceError; after `open` the source counts again from zero."""
    clock, lib, source = make()
    source.open()
    lib.errors[COUNTER] = NVMLError_GpuIsLost("GPU is lost")
    with pytest.raises(SourceError, match="lost"):
        source.read()
    del lib.errors[COUNTER]
    source.open()
    clock.advance(1.0)
    assert source.read().cumulative_j == pytest.approx(300.0, abs=31.0)


def test_library_is_given_back_once() -> None:
    """Opening again and closing twice leave NVML as it was."""
    _, lib, source = make()
    source.open()
    source.open()
    source.close()
    source.close()
    assert lib.num_inits == 0


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, ["GPU-aaaa", "GPU-bbbb", "GPU-cccc"]),
        ("1", ["GPU-bbbb"]),
        ("2,0", ["GPU-cccc", "GPU-aaaa"]),
        ("GPU-bb", ["GPU-bbbb"]),
        ("GPU-cccc,GPU-aaaa", ["GPU-cccc", "GPU-aaaa"]),
        ("0,0", ["GPU-aaaa"]),
        ("1,-1,2", ["GPU-bbbb"]),
        ("0,7,1", ["GPU-aaaa"]),
    ],
)
def test_z10_only_visible_devices_by_index_or_uuid(setting: str | None, expected: list[str]) -> None:
    """CUDA_VISIBLE_DEVICES is read as CUDA reads it, and the boards are keyed by UUID."""
    gpus = [FakeGpu(f"GPU-{letter * 4}", 100.0) for letter in "abc"]
    _, _, source = make(*gpus, environ={} if setting is None else {"CUDA_VISIBLE_DEVICES": setting})
    assert list(source.open().keys) == expected


def test_index_counts_among_the_visible() -> None:
    """`cuda:1` is the second visible board, and only that one is metered."""
    gpus = [FakeGpu("GPU-a", 100.0), FakeGpu("GPU-b", 200.0), FakeGpu("GPU-c", 400.0)]
    clock, _, source = make(*gpus, environ={"CUDA_VISIBLE_DEVICES": "2,1"}, indices=[1])
    assert source.open().keys == ("GPU-b",)
    clock.advance(10.0)
    assert source.read().cumulative_j == pytest.approx(2000.0, abs=21.0)


@pytest.mark.parametrize("setting", ["", "-1", "NoDevFiles"])
def test_nothing_visible_is_explained(setting: str) -> None:
    """A process that may use no GPU meters none and says why."""
    _, _, source = make(environ={"CUDA_VISIBLE_DEVICES": setting})
    with pytest.raises(SourceUnavailable, match="CUDA_VISIBLE_DEVICES"):
        source.open()


def test_unlike_gpus_in_cuda_order_are_remarked() -> None:
    """CUDA numbers unlike boards by speed, NVML by bus: the remark says how to be sure."""
    gpus = [FakeGpu("GPU-a", 100.0), FakeGpu("GPU-b", 200.0, name="NVIDIA T4")]
    _, _, source = make(*gpus, environ={"CUDA_VISIBLE_DEVICES": "0"})
    assert any("CUDA_DEVICE_ORDER" in detail for detail in source.open().details)


def test_mig_slice_meters_its_board_as_shared() -> None:
    """A MIG id leads to the whole board, marked shared, with no lower bound."""
    gpu = FakeGpu("GPU-aaaa", 300.0)
    clock, lib, source = make(gpu, environ={"CUDA_VISIBLE_DEVICES": "MIG-1234"})
    lib.mig_slices["MIG-1234"] = gpu
    capability = source.open()
    clock.advance(10.0)
    reading = source.read()
    assert capability.keys == ("GPU-aaaa",)
    assert reading.tier is Tier.SHARED
    assert reading.lo_j == 0.0
    assert reading.cumulative_j == pytest.approx(3000.0, abs=31.0)


def test_board_in_mig_mode_is_shared() -> None:
    """A board cut into slices is shared even if named by index."""
    gpu = FakeGpu("GPU-aaaa", 300.0)
    gpu.is_mig = True
    _, _, source = make(gpu)
    assert source.open().tier is Tier.SHARED


def test_c5_foreign_process_lowers_the_tier() -> None:
    """Somebody else's process on the board makes the figure an upper bound."""
    gpu = FakeGpu("GPU-aaaa", 300.0)
    gpu.pids = [4242, 1]
    _, _, source = make(gpu)
    capability = source.open()
    assert capability.tier is Tier.SHARED
    assert any("shared" in detail for detail in capability.details)


def test_foreign_process_that_comes_and_goes_leaves_its_mark() -> None:
    """The bound goes down by what was used since the last clean look, and the tier stays lowered."""
    clock, lib, source = make()
    source.open()
    clock.advance(100.0)
    clean = source.read()
    lib.gpus[0].pids = [1]
    clock.advance(50.0)
    source.read()
    lib.gpus[0].pids = []
    clock.advance(50.0)
    source.read()
    clock.advance(800.0)
    after = source.read()
    assert clean.tier is Tier.MEASURED
    assert after.tier is Tier.SHARED
    assert after.cumulative_j == pytest.approx(300_000.0, rel=1e-3)
    assert after.lo_j < 0.9 * 300_000.0 - 100.0 * 300.0 + 100.0


@pytest.mark.parametrize(
    ("pids", "tier"), [([0], Tier.MEASURED), ([0, 99], Tier.SHARED), ([99], Tier.MEASURED)]
)
def test_own_process_under_an_unknown_number_is_not_foreign(pids: list[int], tier: Tier) -> None:
    """In a container NVML may show us under a number unknown here; beside our own it is a stranger."""
    gpu = FakeGpu("GPU-aaaa", 300.0)
    gpu.pids = pids
    _, _, source = make(gpu)
    assert source.open().tier is tier


def test_process_ancestry() -> None:
    """Tell this process (own), its parent (not own) and a number nobody has (unknown) apart."""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    assert is_own_process(os.getpid()) is True
    assert is_own_process(os.getppid()) is False
    assert is_own_process(2**22 + 1) is None


def test_missing_package_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without nvidia-ml-py the reason and the command are given."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(SourceUnavailable, match="pip install nvidia-ml-py"):
        NvmlSource(clock_ns=Clock()).open()


def test_missing_driver_is_explained() -> None:
    """Without a driver the reason and the remedy are given."""
    _, lib, source = make()
    lib.errors["nvmlInit"] = NVMLError_FunctionNotFound("Shared Library Not Found")
    with pytest.raises(SourceUnavailable, match="driver"):
        source.open()


def test_library_without_any_power_function_is_unavailable() -> None:
    """A board that can tell neither energy nor power is not metered, and does not raise anything else."""
    _, lib, source = make()
    lib.missing |= {COUNTER, "nvmlDeviceGetFieldValues", "nvmlDeviceGetPowerUsage"}
    with pytest.raises(SourceUnavailable):
        source.open()


def test_missing_secondary_functions_do_no_harm() -> None:
    """An old library without limits, MIG or process lists still meters."""
    clock, lib, source = make()
    lib.missing |= {
        "nvmlDeviceGetEnforcedPowerLimit",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetComputeRunningProcesses",
    }
    details = source.open().details
    clock.advance(10.0)
    assert source.read().cumulative_j == pytest.approx(3000.0, abs=31.0)
    assert any("taken as exclusive" in detail for detail in details)
