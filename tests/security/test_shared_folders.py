"""Exploits by what lies in a run folder: links, hard links, huge and deep entries, names and numbers."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tamper import edit_json, reseal

from factory.cli.errors import show_warnings
from factory.comparison.runs import select_runs
from factory.reporting import curves
from factory.reporting.console import PlainLines
from factory.reporting.report import write_report
from factory.reporting.run_folder import read_records, read_reward_terms
from factory.runtime import stored_files
from factory.tracking.journal import Journal, trim_torn_line
from factory.training import checkpoint, checkpoint_files, fit, run_lock
from factory.training.reward_table import RewardTable

pytestmark = pytest.mark.slow

Command = Callable[..., tuple[int, str, str]]

HUGE_BYTES = 1 << 42
"""Size of a file with a hole, which takes no place on the disk."""
ESCAPE = "\x1b]0;owned\x07"


def newest(run_dir: Path) -> Path:
    """Return the folder of the newest checkpoint."""
    return (run_dir / "checkpoints" / "last").resolve()


def put_circle(run_dir: Path) -> None:
    """Let two links name each other."""
    (run_dir / "a").symlink_to("b")
    (run_dir / "b").symlink_to("a")


def put_circle_of_one(run_dir: Path) -> None:
    """Let the newest checkpoint be a link to itself."""
    (run_dir / "checkpoints" / "last").unlink()
    (run_dir / "checkpoints" / "last").symlink_to("last")


def put_depths(run_dir: Path) -> None:
    """Nest folders so deeply that a walk by recursion ends Python."""
    here = Path.cwd()
    os.chdir(run_dir)
    for _ in range(1200):
        os.mkdir("d")
        os.chdir("d")
    os.chdir(here)


@pytest.fixture(autouse=True)
def without_depths(tmp_path: Path) -> Iterator[None]:
    """Remove nested folders after a test: pytest clears old folders by recursion."""
    yield
    subprocess.run(["rm", "-rf", *tmp_path.glob("d"), *tmp_path.glob("*/*/d")], check=True)


@pytest.mark.parametrize("change", [put_circle, put_circle_of_one, put_depths])
def test_odd_entries_are_one_line(stranger: Path, command: Command, change: Callable[[Path], None]) -> None:
    """Links in a circle and folders in depths end every command in one line."""
    change(stranger)
    for arguments in (
        ("evaluate", f"run={stranger}"),
        ("train", f"resume={stranger}"),
        ("compare", f"run={stranger}"),
        ("evaluate", "run=last", f"output_root={stranger.parent}"),
    ):
        status, _, err = command(*arguments)
        assert (status, err.count("\n")) == (2, 1), err


def test_depths_do_not_end_a_search(tmp_path: Path) -> None:
    """The searches for runs and locks stop in time."""
    put_depths(tmp_path)
    assert list(stored_files.find(tmp_path, "config.yaml")) == []
    assert run_lock.abandoned(tmp_path) == []


def test_hard_links_are_not_written_through(stranger: Path, command: Command) -> None:
    """Evaluation and resume leave files alone that also have a name in the run folder.

    A digit that is no number, among the checkpoints, does not end the training.
    """
    (stranger / "checkpoints" / "\u00b2").mkdir()
    precious: list[Path] = []
    own = [path for path in stranger.rglob("*") if path.is_file() and "checkpoints" not in path.parts]
    for path in (*own, stranger / "evaluation.json", stranger / "tracking_pending.jsonl"):
        path.unlink(missing_ok=True)
        precious.append(stranger.parent / f"precious {len(precious)}")
        precious[-1].write_text("no newline at its end")
        os.link(precious[-1], path)
    assert len(precious) > 10
    assert command("evaluate", f"run={stranger}", "episodes=4")[0] == 0
    assert command("train", f"resume={stranger}", "total_steps=96")[0] == 0
    assert {path.read_text() for path in precious} == {"no newline at its end"}


def test_files_with_holes_take_no_memory(tmp_path: Path) -> None:
    """4 TB that are not on the disk are refused, passed over or trimmed, never read."""
    for name in ("metrics.jsonl", "reward_terms.csv", "state.json"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(HUGE_BYTES)
    for read in (
        lambda: read_records(tmp_path / "metrics.jsonl"),
        lambda: read_reward_terms(tmp_path / "reward_terms.csv"),
        lambda: (
            list(Journal(tmp_path / "journal.jsonl").rows())
            or list(stored_files.read_lines(tmp_path / "metrics.jsonl"))
        ),
        lambda: RewardTable(tmp_path / "reward_terms.csv", (), resumed_at=1),
        lambda: stored_files.read_json(tmp_path / "state.json"),
    ):
        with pytest.raises(ValueError, match="bytes, more than"):
            read()


def test_rows_of_terms_that_are_no_numbers_are_dropped(tmp_path: Path) -> None:
    """A formula for a spreadsheet, or a cell of a megabyte, does not come back in the table of a resume."""
    path = tmp_path / "reward_terms.csv"
    path.write_text(f"step,a\n1,2\n2,=cmd()\n3,{'9' * 200_000}x\n4,\n5,6\n")
    RewardTable(path, ("a",), resumed_at=4).close()
    assert path.read_text().split() == ["step,a", "1,2", "4,"]


def test_reading_takes_memory_for_the_file_only(tmp_path: Path) -> None:
    """A small file is read under a limit beyond all memory."""
    (tmp_path / "state.json").write_text("{}")
    assert stored_files.read_bytes(tmp_path / "state.json", limit=1 << 60) == b"{}"


def test_torn_line_is_found_from_the_end(tmp_path: Path) -> None:
    """Only the end of a large table is read; a table without a line becomes empty."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"a\n" + b"x" * (3 << 20))
    trim_torn_line(path)
    assert path.read_bytes() == b"a\n"
    path.write_bytes(b"x")
    trim_torn_line(path)
    assert path.read_bytes() == b""


def test_checkpoint_beyond_the_memory_is_passed_over(stranger: Path) -> None:
    """Tensors that do not fit into the memory are not read, though checksums list them."""
    folder = newest(stranger)
    with (folder / "zeros.safetensors").open("wb") as file:
        file.truncate(HUGE_BYTES)
    path = folder / "checksums.json"
    listed = json.loads(path.read_text())
    for size in (HUGE_BYTES, 10**300, -1, True):
        listed["files"]["zeros.safetensors"] = {"bytes": size, "sha256": "0" * 64}
        path.write_text(json.dumps(listed))
        assert checkpoint.load(stranger, key="run").env_steps == 32


def test_names_do_not_control_the_terminal(stranger: Path, command: Command) -> None:
    """The name of a damaged checkpoint is spelled out by evaluation, that of a run by compare."""
    (stranger / "checkpoints" / "64").rename(stranger / "checkpoints" / ESCAPE)
    (stranger / "checkpoints" / "last").unlink()
    (stranger / "checkpoints" / "last").symlink_to(ESCAPE)
    (newest(stranger) / "policy.safetensors").write_bytes(b"x")
    status, out, err = command("evaluate", f"run={stranger}", "episodes=4")
    assert status == 0 and "\\x1b]0;owned" in out, err
    assert "\x1b" not in out + err
    PlainLines(file=sys.stdout).message(ESCAPE)
    named = stranger.rename(stranger.with_name(ESCAPE))
    (named / "summary.json").write_text('{"status": "failed"}')
    status, out, err = command("compare", f"run={named.parent}")
    assert status == 0 and "\x1b" not in out + err


def test_warnings_do_not_control_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    """The warnings of a command spell out what a stranger's file puts into them."""
    show_warnings()
    logging.getLogger("factory.tracking").warning("%s is gone", ESCAPE)
    assert capfd.readouterr().err == "\\x1b]0;owned\\x07 is gone\n"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("learner.gamma", 10**400, "learner.gamma="),
        ("checkpoint_every", -(10**400), "checkpoint_every="),
        ("robot", "file:/x\0y", "robot="),
        ("robot", "file:/" + "x" * 9000, "robot="),
        ("seed", "???", "seed"),
    ],
    ids=["float", "integer", "zero", "long", "missing"],
)
def test_odd_values_are_one_short_line(
    stranger: Path, command: Command, key: str, value: object, expected: str
) -> None:
    """Numbers and paths that no machine takes are named, in a line that is not endless."""

    def change(config: dict) -> None:
        *groups, last = key.split(".")
        for group in groups:
            config = config[group]
        config[last] = value

    edit_json(stranger, "config.json", change)
    status, _, err = command("train", f"resume={stranger}", "total_steps=96")
    assert (status, err.count("\n")) == (2, 1) and expected in err and len(err) < 5000, err


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "uint16", "complex64", "bool"])
def test_types_of_tensors_are_known(stranger: Path, dtype: str) -> None:
    """Types that torch cannot examine are refused like any other."""
    path = newest(stranger) / "policy.safetensors"
    own = load_file(path)
    given = {name: value.to(getattr(torch, dtype)) for name, value in own.items()}
    with pytest.raises(ValueError, match="has type"):
        fit.check_tensors(own, given, name="policy")
    with pytest.raises(ValueError, match=r"has type|is not finite"):
        fit.check_tensors(own, own | given, name="learner")


READING = {
    "wall_s": 1.0,
    "phase_s": {},
    "phase_j": {},
    "unattributed_s": 0.0,
    "unattributed_j": 0.0,
    "total_j": 1.0,
    "total_j_lo": 1.0,
    "total_j_hi": 1.0,
    "components_j": {},
    "cpu_s": 1.0,
    "mean_power_w": 1.0,
    "tier": "estimated",
    "phase_tier": "estimated",
    "component_tier": {},
    "boundary": "cpu",
    "overhead_s": 0.0,
    "lost_s": 0.0,
}


@pytest.mark.parametrize(
    "more", [{"further": 1}, {"tier": "x"}, {"phase_tier": "x"}, {"component_tier": {"cpu": "x"}}]
)
def test_readings_of_others_are_checked(stranger: Path, more: dict) -> None:
    """A reading with further keys or an unknown tier is refused before anything is restored."""
    state = json.loads((newest(stranger) / "state.json").read_text())
    fit.check_energy(state | {"peer_meters": [READING]})
    with pytest.raises(ValueError):
        fit.check_energy(state | {"peer_meters": [READING | more]})


@pytest.mark.parametrize("change", ["missing", "short", "of another type"])
def test_generator_of_the_policy_is_checked(stranger: Path, command: Command, change: str) -> None:
    """The state of the policy's generator is tried before the resume, as those of the others are."""
    path = newest(stranger) / "generators.safetensors"
    tensors = load_file(path)
    state = tensors.pop("policy")
    if change == "short":
        tensors["policy"] = state[:9].clone()
    if change == "of another type":
        tensors["policy"] = state.float()
    save_file(tensors, path)
    reseal(newest(stranger))
    status, _, err = command("train", f"resume={stranger}", "total_steps=96")
    assert (status, err.count("\n")) == (2, 1) and "generators" in err, err


@pytest.mark.parametrize(
    "text",
    [
        "a: 1" + ":59" * 300 + ".5",
        "a: 0x" + "f" * 20_000,
        "a: " + "9" * 5000,
        "a: !!set {x}",
        "a: !!binary aGVsbG8=",
    ],
)
def test_numbers_and_tags_of_yaml_are_bounded(stranger: Path, text: str) -> None:
    """Numbers without end and tags of any kind are refused in one line that names the file."""
    (stranger / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"config\.yaml"):
        select_runs([str(stranger)], output_root=stranger)


NUMBERS = st.one_of(
    st.sampled_from([10**400, -(10**400), 1e308, -1e308, 5e-324, float("nan"), float("inf"), -1, 0, True]),
    st.floats(),
)
KEYS = ["train/return_mean", "eval/return_mean", "time/wall_s", "energy/total_j", "time/sim_s", "loss/value"]


@settings(max_examples=10)
@given(st.lists(st.tuples(NUMBERS, st.dictionaries(st.sampled_from(KEYS), NUMBERS)), max_size=4), NUMBERS)
def test_no_number_breaks_a_report(tmp_path_factory, rows: list, number: float) -> None:
    """Metrics, steps, times and terms of any size are drawn or left out."""
    folder = tmp_path_factory.mktemp("run")
    lines = [json.dumps({"step": s, "time_unix_s": i, "metrics": m}) for i, (s, m) in enumerate(rows)]
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    (folder / "summary.json").write_text(json.dumps({"metrics": dict.fromkeys(KEYS, number)}))
    (folder / "reward_terms.csv").write_text(f"step,a\n{number},1\n{number},{number}\n")
    assert write_report(folder).exists()


def test_number_of_curves_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of ten thousand terms is not drawn for hours, and the page says so."""
    monkeypatch.setattr(curves, "MAX_PANELS", 2)
    drawn = curves.draw_panels([curves.Curve(title="a", x=[1.0], y=[1.0])] * 10_000, prefix="a")
    assert len(drawn.panels) == 2 and "The first 2 of 10000 curves" in drawn.note


def test_candidates_survive_circles(tmp_path: Path) -> None:
    """A run whose checkpoints are links in a circle has none."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last").symlink_to("last")
    assert not checkpoint_files.exists(tmp_path)
