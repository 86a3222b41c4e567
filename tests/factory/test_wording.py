"""The word "measured" belongs to hardware counters, wherever joules are told."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import rich.console

from factory.energy.types import Tier
from factory.reporting.console import PlainLines, print_summary
from factory.reporting.live_panel import LivePanel
from factory.reporting.report import write_report
from factory.tracking.headline import headline_note

ROOT = Path(__file__).parents[2]
WORD = re.compile(r"\bmeasured\b", re.IGNORECASE)
METRICS = {
    "train/return_mean": 12.0,
    "factory/env_steps": 500.0,
    "factory/tokens_per_s": 1000.0,
    "factory/joules_per_token": 2e-3,
    "energy/total_j": 254.0,
    "energy/total_j_lo": 127.0,
    "energy/total_j_hi": 762.0,
    "energy/cpu_j": 254.0,
    "energy/phase/sim_j": 254.0,
    "time/wall_s": 60.0,
}
ENERGY = re.compile(r"\b(energy|joules?|watts?|power|[muk]?J|[mk]?W)\b")
PAGES = sorted(
    page.relative_to(ROOT)
    for pattern in ("*.md", "docs/*.md", "experiments/**/*.md", "conf/**/*.yaml")
    for page in ROOT.glob(pattern)
)


@pytest.mark.parametrize("tier", list(Tier))
def test_console_report_and_ledger_say_it_of_counters_only(
    tier: Tier, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every text made of a run's figures has the word if the run's tier has, and only then."""
    tags = {"task": "cartpole_swingup", "energy.tier": str(tier), "energy.boundary": "package"}
    file, folder = io.StringIO(), tmp_path_factory.mktemp("run")
    (folder / "summary.json").write_text(json.dumps({"status": "finished", "metrics": METRICS, "tags": tags}))
    terminal = LivePanel(console=rich.console.Console(file=file, width=120, force_terminal=True))
    for console in (PlainLines(file=file), terminal):
        console.start({"task": "cartpole_swingup"}, total_steps=500)
        console.update(METRICS, str(tier))
        console.close()
    said = file.getvalue()
    print_summary(METRICS, tags, folder, file=(summary := io.StringIO()))
    texts = [
        said,
        summary.getvalue(),
        write_report(folder).read_text(),
        headline_note(METRICS, tags),
        *METRICS,
    ]
    assert [bool(WORD.search(text)) for text in texts[:4]] == [tier is Tier.MEASURED] * 4
    assert not any(WORD.search(key) for key in METRICS)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_pages_say_it_of_energy_only_where_a_counter_is_meant(page: Path) -> None:
    """In a sentence about energy the word stands beside the counter it means, or in the list of tiers."""
    sentences = re.split(r"(?<=[.!?|;])\s+|\n\n|\n(?=[-*|#])", (ROOT / page).read_text())
    for sentence in sentences:
        if WORD.search(sentence) and ENERGY.search(sentence):
            assert "counter" in sentence or all(
                str(tier) in sentence for tier in (Tier.SAMPLED, Tier.ESTIMATED)
            )


@pytest.mark.parametrize("said", ["J/token was measured", "we measured 12 mJ"])
def test_the_check_of_pages_finds_what_it_looks_for(said: str) -> None:
    """A bare measured joule would not pass."""
    assert WORD.search(said) and ENERGY.search(said)


@pytest.mark.slow
def test_a_real_run_says_it_only_if_it_counted(
    command_line: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Console and every text in the run folder of a real run keep to its tier."""
    command_line(
        *("task=cartpole_swingup", "task.max_episode_steps=20", "num_envs=8", "learner.num_steps=8"),
        *(
            "total_steps=128",
            "runtime.eval_episodes=4",
            "runtime.video_s=0",
            "tracking=jsonl",
            "hydra.run.dir=run",
        ),
    )
    folder = tmp_path / "run"
    tier = json.loads((folder / "summary.json").read_text())["tags"]["energy.tier"]
    files = [
        path for path in folder.rglob("*") if path.suffix in (".json", ".jsonl", ".html", ".yaml", ".csv")
    ]
    texts = [capsys.readouterr().out, *(path.read_text() for path in files)]
    assert len(files) > 5
    assert any(WORD.search(text) for text in texts) == (tier == "measured")
