"""What is metered on which machine, why, and the settings behind it."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
from energy_fakes import Clock, FakeGpu, FakeNvml, RaplTree
from omegaconf import OmegaConf

from factory.energy.config import EnergyConfig, SiteConfig
from factory.energy.meter import Meter
from factory.energy.selection import select_sources


@pytest.fixture
def rapl_root(tmp_path: Path) -> str:
    """Return a machine with readable counters."""
    tree = RaplTree(tmp_path / "powercap", Clock())
    tree.add("intel-rapl:0", "package-0", 50.0)
    tree.add("intel-rapl:0/intel-rapl:0:0", "dram", 5.0)
    return str(tree.root)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """Return a machine with three GPUs."""
    lib = FakeNvml(Clock(), [FakeGpu(f"GPU-{letter}", 100.0) for letter in "abc"])
    monkeypatch.setitem(sys.modules, "pynvml", lib)
    return lib


def names(cfg: EnergyConfig, device: str, environ: dict[str, str] | None = None) -> list[str]:
    """Return the names of the chosen sources."""
    return [source.name for source in select_sources(cfg, device, environ=environ or {}).sources]


def test_counters_are_taken_where_they_are(rapl_root: str, nvml: FakeNvml) -> None:
    """RAPL for the CPU, NVML for a CUDA device, and NVML not at all for a CPU run."""
    cfg = EnergyConfig(rapl_root=rapl_root)
    assert names(cfg, "cpu") == ["rapl"]
    assert names(cfg, "cuda") == ["rapl", "nvml"]


def test_estimate_joins_nvml_where_rapl_is_missing(tmp_path: Path, nvml: FakeNvml) -> None:
    """A GPU counter alone would leave the CPU out."""
    assert names(EnergyConfig(rapl_root=str(tmp_path)), "cuda:0") == ["estimate", "nvml"]


def test_z3_what_is_missing_is_said_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing counter is explained in plain words, on the meter itself."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    meter = Meter.from_config(
        EnergyConfig(rapl_root=str(tmp_path / "absent")), "cuda", synchronize=lambda: None
    )
    text = "\n".join(meter.explanation)
    assert "rapl is not available" in text
    assert "to have it: run on the host" in text
    assert "estimated from CPU time" in text
    assert "pip install nvidia-ml-py" in text
    assert "GPU energy is NOT in any metric" in text


def test_only_the_device_of_the_run_is_metered(rapl_root: str, nvml: FakeNvml) -> None:
    """`cuda` is the first visible device, `cuda:2` the third, and the ranks of a host share one meter."""

    def keys(device: str, environ: dict[str, str]) -> tuple[str, ...]:
        return select_sources(EnergyConfig(source="nvml"), device, environ=environ).sources[0].open().keys

    assert keys("cuda", {}) == ("GPU-a",)
    assert keys("cuda:2", {}) == ("GPU-c",)
    assert keys("cuda", {"CUDA_VISIBLE_DEVICES": "GPU-b"}) == ("GPU-b",)
    assert keys("cuda:0", {"LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "0"}) == ("GPU-a", "GPU-b")


def test_c6_ranks_never_count_twice(rapl_root: str, nvml: FakeNvml) -> None:
    """Of all ranks of a host only the first meters, whatever is asked for."""
    for source in ("auto", "rapl", "estimate"):
        cfg = EnergyConfig(source=source, rapl_root=rapl_root)
        assert names(cfg, "cuda:0", {"LOCAL_RANK": "0"}) != []
        assert names(cfg, "cuda:1", {"LOCAL_RANK": "1"}) == []


def test_named_source_that_is_missing_is_an_error(tmp_path: Path) -> None:
    """Asked for by name, a missing source is refused with key, value, reason and remedy."""
    with pytest.raises(ValueError, match=r"energy\.source=rapl: .*no powercap tree.*to have it"):
        select_sources(EnergyConfig(source="rapl", rapl_root=str(tmp_path / "absent")), "cpu", environ={})


def test_null_meters_nothing() -> None:
    """`null` gives a meter that counts seconds."""
    meter = Meter.from_config(EnergyConfig(source="null"), "cpu")
    meter.start()
    assert math.isnan(meter.read().total_j)
    assert meter.explanation == ["energy.source=null: nothing is metered"]


def test_replay_is_labelled(tmp_path: Path) -> None:
    """A replayed run is called replayed in its reading."""
    (tmp_path / "t.csv").write_text("t_s,cpu_j\n0,0\n1000,5000\n")
    meter = Meter.from_config(EnergyConfig(source="replay", replay_path=str(tmp_path / "t.csv")), "cpu")
    meter.start()
    sum(range(10_000))
    assert meter.read().tier == "replayed"


def test_estimate_on_this_machine_end_to_end(tmp_path: Path) -> None:
    """On any machine a run without counters ends with joules, an interval and the word estimated."""
    meter = Meter.from_config(EnergyConfig(rapl_root=str(tmp_path)), "cpu")
    meter.start()
    with meter.phase("learn"):
        sum(range(300_000))
    meter.close()
    reading = meter.read()
    assert 0.0 < reading.total_j_lo < reading.total_j < reading.total_j_hi
    assert (reading.tier, reading.boundary) == ("estimated", "allocation")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EnergyConfig(source="magic"), "energy.source=magic: choose from auto, rapl"),
        (lambda: EnergyConfig(sync="often"), "energy.sync=often: choose from"),
        (lambda: EnergyConfig(min_window_s=-1.0), "energy.min_window_s=-1.0: must be > 0"),
        (lambda: EnergyConfig(source="replay"), "energy.replay_path=''"),
        (lambda: SiteConfig(pue=0.9), "energy.site.pue=0.9: must be >= 1"),
        (lambda: SiteConfig(price_usd_per_kwh=-1.0), "energy.site.price_usd_per_kwh=-1.0"),
    ],
)
def test_bad_settings_name_their_key(make: object, message: str) -> None:
    """A wrong setting is refused in one line with the full key, the value and the choices."""
    with pytest.raises(ValueError) as caught:
        make()  # type: ignore[operator]
    assert message in str(caught.value)


def test_config_is_a_hydra_schema() -> None:
    """OmegaConf can hold the config, override it, calibration included, and give it back validated."""
    schema = OmegaConf.structured(EnergyConfig)
    calibration = {"idle_w_per_core": 1.0, "max_w_per_core": 4.0, "relative_u": 0.02, "origin": "plug"}
    merged = OmegaConf.merge(schema, {"source": "estimate", "estimate": {"calibration": calibration}})
    cfg = OmegaConf.to_object(merged)
    assert isinstance(cfg, EnergyConfig)
    assert cfg.estimate.calibration.origin == "plug"
    with pytest.raises(ValueError, match=r"energy\.min_window_s"):
        OmegaConf.to_object(OmegaConf.merge(schema, {"min_window_s": 0.0}))
