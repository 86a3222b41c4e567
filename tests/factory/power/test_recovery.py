"""Settings of a board after kill -9: the next start puts them back, wherever the process was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from power_fakes import LIMIT_MW, UUID, SettableNvml

from factory.diagnosis import actuate
from factory.diagnosis.finding import Status
from factory.diagnosis.machine import HostEnvironment
from factory.power.journal import Journal
from factory.power.recovery import put_back_leftovers

ROOT = Path(__file__).parents[3]
KILLED = """
import os, signal, sys
from pathlib import Path
from power_fakes import SettableNvml
from factory.power.config import ProfileConfig
from factory.power.journal import Journal, Page
from factory.power.profile import start_profile

folder, where, kind = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
cfg = ProfileConfig(name="p", **{"limit_mw": {"power_share": 0.5}, "clocks_mhz": {"clock_share": 0.5},
                                 "requested": {"workload_profile": 1}}[kind])
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
nvml = SettableNvml(folder / "board.json")
write = Page.write
if where == "before the journal":
    Page.write = die
elif where == "before the setting":
    nvml._set = die
elif where == "before the second entry":
    nvml.read_back = False
    Page.write = lambda page, entry: die() if entry.is_read_back else write(page, entry)
start_profile(cfg, device="cuda", lib=nvml, journal=Journal(folder / "journal"))
die()
"""


def kill(folder: Path, where: str, kind: str = "limit_mw") -> None:
    """Let a process change a setting of the board and die at a place."""
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests/helpers")))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), where, kind],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("kind", ["limit_mw", "clocks_mhz", "requested"])
@pytest.mark.parametrize(
    ("where", "is_changed", "is_journaled"),
    [
        ("before the journal", False, False),
        ("before the setting", False, True),
        ("before the second entry", True, True),
        ("in the middle of the job", True, True),
    ],
)
def test_killed_process_leaves_nothing_changed(
    where: str, is_changed: bool, is_journaled: bool, kind: str, tmp_path: Path
) -> None:
    """At whichever step the process dies, the next start leaves the board as it was before."""
    before = SettableNvml(tmp_path / "board.json").settings
    kill(tmp_path, where, kind)
    nvml = SettableNvml(tmp_path / "board.json")
    journal = Journal(tmp_path / "journal")
    assert (nvml.settings[kind] != before[kind]) is is_changed
    assert bool(journal.uuids()) is is_journaled
    found = put_back_leftovers(journal, lib=nvml)
    assert nvml.settings | {"writes": []} == before
    assert [leftover.is_back for leftover in found] == [True] * is_journaled
    assert journal.uuids() == []
    assert put_back_leftovers(journal, lib=nvml) == []


def test_settings_without_the_right_to_put_them_back_stay_in_the_journal(tmp_path: Path) -> None:
    """A start without root says so; a later one with root puts them back."""
    kill(tmp_path, "in the middle of the job")
    nvml = SettableNvml(tmp_path / "board.json", mode="refusing")
    journal = Journal(tmp_path / "journal")
    (leftover,) = put_back_leftovers(journal, lib=nvml)
    assert not leftover.is_back
    assert "Insufficient Permissions" in leftover.text
    nvml.mode = "working"
    (leftover,) = put_back_leftovers(journal, lib=nvml)
    assert (leftover.is_back, nvml.settings["limit_mw"]) == (True, LIMIT_MW)


def test_settings_of_an_earlier_boot_are_forgotten(tmp_path: Path) -> None:
    """A driver starts with its own settings, so nothing is written; another machine's entry stays."""
    kill(tmp_path, "in the middle of the job")
    journal = Journal(tmp_path / "journal")
    path = journal.folder / f"{UUID}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"boot_id": "an earlier one"}))
    nvml = SettableNvml(tmp_path / "board.json")
    writes = nvml.settings["writes"]
    nvml.gpus[0].uuid = "GPU-elsewhere"
    assert put_back_leftovers(journal, lib=nvml) == []
    assert journal.uuids() == [UUID]
    nvml.gpus[0].uuid = UUID
    assert put_back_leftovers(journal, lib=nvml) == []
    assert journal.uuids() == []
    assert nvml.settings["writes"] == writes


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"actuator": "fan"}'])
def test_malformed_entry_is_reported_and_stays(content: str, tmp_path: Path) -> None:
    """A file that is no entry changes no board and ends no command."""
    journal = Journal(tmp_path)
    (tmp_path / f"{UUID}.json").write_text(content)
    nvml = SettableNvml(tmp_path / "board")
    (leftover,) = put_back_leftovers(journal, lib=nvml)
    assert not leftover.is_back
    assert f"{UUID}.json" in leftover.text
    assert nvml.settings["writes"] == []


def test_doctor_puts_settings_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor repairs a board after kill -9, says so, and lists which settings a profile has here."""
    kill(tmp_path, "in the middle of the job")
    monkeypatch.setenv("FACTORY_STATE_DIR", str(tmp_path))
    (tmp_path / "journal").rename(tmp_path / "power")
    nvml = SettableNvml(tmp_path / "board.json", profiles=())
    found = actuate.examine(HostEnvironment(), rapl_root=tmp_path, sys_root=tmp_path, nvml=nvml)
    (left,) = (finding for finding in found if finding.name == "left changed")
    assert (left.status, nvml.settings["limit_mw"]) == (Status.OK, LIMIT_MW)
    assert "is back: 700 W" in left.text
    assert any("(settings of a profile: locked_clocks, power_limit)" in finding.text for finding in found)
