"""Exploits in names and values: pages show them as text, and nothing in them is fetched or run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hostile_pages import ATTACK, assert_harmless

from factory.reporting.report import write_report


def poison(run_dir: Path) -> None:
    """Put the attack wherever a run folder holds a text."""
    summary = json.loads((run_dir / "summary.json").read_text())
    summary["status"] = ATTACK
    summary["device"] = ATTACK
    summary["mlflow_run_id"] = ATTACK
    summary["tags"] = {key: ATTACK for key in summary["tags"]} | {ATTACK: ATTACK}
    summary["versions"] = {ATTACK: ATTACK}
    summary["metrics"] |= {ATTACK: 1.0, "eval/return_mean": ATTACK}
    (run_dir / "summary.json").write_text(json.dumps(summary))
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    config["env_id"] = ATTACK
    config["task"]["name"] = ATTACK
    config["learner"][ATTACK] = ATTACK
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config))
    (run_dir / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([f"task={ATTACK}"]))
    table = (run_dir / "reward_terms.csv").read_text().splitlines()
    header = ",".join(["step", '"' + ATTACK.replace('"', '""') + '"', *table[0].split(",")[2:]])
    (run_dir / "reward_terms.csv").write_text("\n".join([header, *table[1:]]) + "\n")
    (run_dir / "videos").mkdir(exist_ok=True)
    (run_dir / "videos" / '"><img src=x onerror=alert(1)>.mp4').write_bytes(b"no video")


def test_report_shows_hostile_names_as_text(stranger: Path) -> None:
    """Tags, versions, names, settings, terms, file and folder names are escaped in the report."""
    poison(stranger)
    hostile = stranger.rename(stranger.with_name("<img src=x onerror=alert(1)>"))
    assert_harmless(write_report(hostile))


def test_compare_shows_hostile_names_as_text(
    stranger: Path, trained: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    """The same for the page of a comparison, in which the names of runs and settings are headings."""
    poison(stranger)
    arguments = (f"run={stranger}", f"run={trained}", "force=true", "out=page")
    status, out, err = command("compare", *arguments)
    assert status == 0, err
    assert "\x1b[2J" not in out + err
    assert_harmless(Path("page/compare.html"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl", "reward_terms.csv", "config.yaml"])
@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b"[]", b"null", b'{"metrics": 3, "tags": [1]}', b"{" * 9999]
)
def test_report_of_nonsense_is_a_report_or_a_line(stranger: Path, name: str, content: bytes) -> None:
    """A file of nonsense is left out of the report, or named in one line."""
    (stranger / name).write_bytes(content)
    try:
        assert write_report(stranger).exists()
    except ValueError as error:
        assert "\n" not in str(error)
