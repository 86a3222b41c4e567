"""Settings of a GPU board: journaled first, read back, and put back, whatever the board makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from power_fakes import LIMIT_MW, UUID, SettableNvml

from factory.power.config import ProfileConfig
from factory.power.journal import Journal
from factory.power.profile import PowerProfile, start_profile

EFFICIENT = ProfileConfig(name="efficiency", workload_profile=1, clock_share=0.7, power_share=0.7)
CLOCKS = ProfileConfig(name="clocks", clock_share=0.7)
LIMIT = ProfileConfig(name="limit", power_share=0.5)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Return an empty journal."""
    return Journal(tmp_path / "journal")


@pytest.fixture
def board(tmp_path: Path) -> Callable[..., SettableNvml]:
    """Return a function that opens NVML with the same board each time."""
    return lambda **kwargs: SettableNvml(tmp_path / "board.json", **kwargs)


def start(cfg: ProfileConfig, nvml: SettableNvml, journal: Journal) -> PowerProfile:
    """Put a profile into force on the GPU."""
    return start_profile(cfg, device="cuda", lib=nvml, journal=journal)


@pytest.mark.parametrize(
    ("cfg", "key", "value", "asked", "enforced"),
    [
        (EFFICIENT, "requested", [1], "workload_profile 1", "workload_profile 1"),
        (CLOCKS, "clocks_mhz", [345, 1380], "locked_clocks at most 1380 MHz", "locked_clocks 1380 MHz now"),
        (LIMIT, "limit_mw", 350_000, "power_limit 350 W", "power_limit 350 W"),
    ],
)
def test_board_obeys_and_gets_its_settings_back(
    cfg: ProfileConfig,
    key: str,
    value: object,
    asked: str,
    enforced: str,
    board: Callable[..., SettableNvml],
    journal: Journal,
) -> None:
    """The first setting that the profile names is in force until the end, and the journal is empty then."""
    nvml = board()
    before = nvml.settings
    profile = start(cfg, nvml, journal)
    assert nvml.settings == before | {key: value, "writes": [[key, value]]}
    assert profile.tags() == {
        "power/profile": cfg.name,
        "power/asked": asked,
        "power/enforced": enforced,
    }
    assert journal.uuids() == [UUID]
    profile.restore()
    assert nvml.settings == before | {"writes": [[key, value], [key, before[key]]]}
    assert journal.uuids() == []
    assert nvml.num_inits == 0


def test_journal_is_on_disk_before_the_first_write(
    board: Callable[..., SettableNvml], journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The setter finds the original value in the file, with boot, process and board."""
    nvml = board()
    seen: list[dict[str, object]] = []

    def note(handle: object, limit_mw: int) -> None:
        seen.append(json.loads((journal.folder / f"{UUID}.json").read_text()))
        SettableNvml.nvmlDeviceSetPowerManagementLimit(nvml, handle, limit_mw)

    monkeypatch.setattr(nvml, "nvmlDeviceSetPowerManagementLimit", note)
    start(LIMIT, nvml, journal).restore()
    entry = seen[0]
    assert (entry["device_uuid"], entry["actuator"], entry["original"]) == (UUID, "power_limit", LIMIT_MW)
    assert entry["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert not entry["is_read_back"]


def test_next_setting_is_tried_where_the_board_lacks_the_first(
    board: Callable[..., SettableNvml], journal: Journal
) -> None:
    """Without workload profiles the clocks are locked; without a free lock, the power is limited."""
    nvml = board(profiles=())
    profile = start(EFFICIENT, nvml, journal)
    assert nvml.settings["clocks_mhz"] == [345, 1380]
    assert any("workload_profile of GPU-0: Not Supported" in note for note in profile.notes)
    profile.restore()
    nvml.clock_reasons = 2
    profile = start(EFFICIENT, nvml, journal)
    assert (nvml.settings["clocks_mhz"], nvml.settings["limit_mw"]) == (None, 490_000)
    assert any("another program limits the clocks already" in note for note in profile.notes)
    profile.restore()


def test_refusing_board_is_left_as_it_was(board: Callable[..., SettableNvml], journal: Journal) -> None:
    """Without the right to set anything, every setting is tried, nothing is changed, and notes say so."""
    nvml = board(mode="refusing")
    before = nvml.settings
    profile = start(EFFICIENT, nvml, journal)
    assert nvml.settings == before
    assert profile.tags() == {"power/profile": "efficiency"}
    assert sum("Insufficient Permissions" in note for note in profile.notes) == 3
    assert journal.uuids() == []
    assert nvml.num_inits == 0
    profile.restore()


@pytest.mark.parametrize(
    ("cfg", "asked", "enforced"),
    [
        (EFFICIENT, "workload_profile 0,1", "workload_profile 0"),
        (CLOCKS, "locked_clocks at most 1380 MHz", "locked_clocks 1980 MHz now"),
        (LIMIT, "power_limit 350 W", "power_limit 600 W"),
    ],
)
def test_arbitrating_board_is_told_from_an_obedient_one(
    cfg: ProfileConfig, asked: str, enforced: str, board: Callable[..., SettableNvml], journal: Journal
) -> None:
    """A board that silently enforces another value is reported with both, and still gets its own back."""
    nvml = board(mode="arbitrating")
    # Whoever runs the machine has requested a profile, which stays requested.
    nvml.settings = nvml.settings | {"requested": [0]}
    before = nvml.settings
    profile = start(cfg, nvml, journal)
    assert (profile.tags()["power/asked"], profile.tags()["power/enforced"]) == (asked, enforced)
    profile.restore()
    assert nvml.settings | {"writes": []} == before


def test_limit_of_the_machine_is_never_raised(board: Callable[..., SettableNvml], journal: Journal) -> None:
    """A limit below that of the profile stays, and nothing is written."""
    nvml = board()
    nvml.settings = nvml.settings | {"limit_mw": 250_000}
    profile = start(ProfileConfig(name="capped", watts=400.0), nvml, journal)
    assert profile.tags(mean_power="240 W (measured)") == {
        "power/profile": "capped",
        "power/asked": "power_limit 250 W; mean_power 400 W",
        "power/enforced": "power_limit 250 W; mean_power 240 W (measured)",
    }
    assert nvml.settings["writes"] == []
    profile.restore()
    assert nvml.settings["limit_mw"] == 250_000


def test_limit_stays_within_the_range_of_the_board(
    board: Callable[..., SettableNvml], journal: Journal
) -> None:
    """A limit below the least of the board becomes the least."""
    nvml = board()
    profile = start(ProfileConfig(name="capped", watts=10.0), nvml, journal)
    assert nvml.settings["limit_mw"] == 200_000
    profile.restore()


def test_setting_that_somebody_changed_meanwhile_stays(
    board: Callable[..., SettableNvml], journal: Journal
) -> None:
    """An operator's new limit is not overwritten by the old one."""
    nvml = board()
    profile = start(LIMIT, nvml, journal)
    nvml.settings = nvml.settings | {"limit_mw": 300_000}
    profile.restore()
    assert nvml.settings["limit_mw"] == 300_000
    assert journal.uuids() == []


def test_board_that_keeps_a_setting_stays_in_the_journal(
    board: Callable[..., SettableNvml], journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    """A value that cannot be put back is reported, kept for the next start, and not overwritten by it."""
    nvml = board()
    profile = start(LIMIT, nvml, journal)
    nvml.mode = "stubborn"
    profile.restore()
    assert "700 W was to be put back, the board keeps 350 W" in caplog.text
    assert journal.uuids() == [UUID]
    second = start(ProfileConfig(name="lower", power_share=0.4), nvml, journal)
    assert any("not put back yet" in note for note in second.notes)
    nvml.mode = "working"
    third = start(ProfileConfig(), nvml, journal)
    assert nvml.settings["limit_mw"] == LIMIT_MW
    assert any("is back: 700 W" in note for note in third.notes)


def test_board_has_one_owner(board: Callable[..., SettableNvml], journal: Journal) -> None:
    """A second job gets no setting of a board that another job holds, and takes none away."""
    nvml = board()
    first = start(LIMIT, nvml, journal)
    second = start(ProfileConfig(name="lower", power_share=0.4), nvml, journal)
    assert any("another process holds the settings of GPU-0" in note for note in second.notes)
    second.restore()
    assert nvml.settings["limit_mw"] == 350_000
    first.restore()
    assert nvml.settings["limit_mw"] == LIMIT_MW


def test_board_of_others_is_left_alone(board: Callable[..., SettableNvml], journal: Journal) -> None:
    """Neither a board that others compute on nor a divided one is changed."""
    nvml = board()
    nvml.gpus[0].pids = [1]
    assert any("others compute on GPU-0" in note for note in start(LIMIT, nvml, journal).notes)
    nvml.gpus[0].pids = []
    nvml.gpus[0].is_mig = True
    assert any("divided (MIG)" in note for note in start(LIMIT, nvml, journal).notes)
    assert nvml.settings["writes"] == []


def test_nothing_is_written_without_a_journal(board: Callable[..., SettableNvml], tmp_path: Path) -> None:
    """Where the journal cannot be written, the board is left alone."""
    (tmp_path / "file").touch()
    nvml = board()
    profile = start(LIMIT, nvml, Journal(tmp_path / "file" / "journal"))
    assert any("no journal of changed settings" in note for note in profile.notes)
    assert nvml.settings["writes"] == []


def test_job_on_the_cpu_touches_no_board(board: Callable[..., SettableNvml], journal: Journal) -> None:
    """Without a GPU in the job, NVML is not even opened."""
    nvml = board()
    start_profile(EFFICIENT, device="cpu", lib=nvml, journal=journal).restore()
    assert nvml.num_calls == 0
    assert not journal.folder.exists()
