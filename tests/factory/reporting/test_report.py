"""What a report says about a whole run, a broken one and an odd one."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from factory.energy.types import Tier
from factory.reporting import report, report_notes
from factory.reporting.headlines import headlines
from factory.reporting.report import write_report
from factory.reporting.run_folder import read_run

VOID = {"meta", "img", "br", "link", "input", "hr"}
METRICS = {
    "factory/env_steps": 81_920.0,
    "factory/tokens_per_s": 12_345.0,
    "factory/env_steps_per_s": 13_579.0,
    "factory/joules_per_token": 0.0031,
    "energy/total_j": 254.0,
    "energy/total_j_lo": 127.0,
    "energy/total_j_hi": 762.0,
    "energy/cpu_j": 200.0,
    "energy/dram_j": 54.0,
    "energy/unattributed_j": 4.0,
    "energy/phase/sim_j": 150.0,
    "energy/phase/learn_j": 100.0,
    "time/wall_s": 226.0,
    "time/sim_s": 113.0,
    "time/physics_s": 56.5,
    "time/learn_s": 79.1,
    "factory/usd": 0.025,
    "factory/gco2e": 40.0,
    "eval/return_mean": 231.75,
    "eval/return_std": 6.5,
    "eval/fall_rate": 0.034,
    "eval/velocity_rms_m_per_s": 0.217,
}
TAGS = {
    "energy.tier": "estimated",
    "energy.boundary": "cpu+dram",
    "task": "quadruped_velocity",
    "robot": "go1",
    "physics": "mujoco",
    "device": "cpu",
    "git.commit": "3e1a9b7c",
    "git.dirty": "true",
}


class Page(HTMLParser):
    """The tags, references and visible text of a page; fails on tags that do not match."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open_tags: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(self.source)
        self.close()
        assert self.open_tags == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag and what it refers to."""
        self.tags.append(tag)
        self.references += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "poster", "data")]
        self.ids += [v or "" for k, v in attrs if k == "id"]
        if tag not in VOID:
            self.open_tags.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open and close the tag."""
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        """Fail unless it closes what was opened last."""
        if tag not in VOID:
            assert self.open_tags.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect visible text."""
        if self.open_tags and self.open_tags[-1] != "style":
            self.text += data + " "


def make_run(folder: Path, **summary: Any) -> Path:
    """Write a small whole run; `summary` replaces entries of summary.json."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / "videos").mkdir()
    with (folder / "metrics.jsonl").open("w") as file:
        for number in range(1, 6):
            metrics = {"train/return_mean": 40.0 * number, "loss/approx_kl": 0.01 * number}
            record = {"step": 16_384 * number, "time_unix_s": 1.79e9 + number, "metrics": metrics}
            file.write(json.dumps(record) + "\n")
    (folder / "reward_terms.csv").write_text(
        "step,track_velocity,fall\n16384,0.25,-0.5\n32768,0.625,-0.125\n"
    )
    (folder / "config.yaml").write_text("learner:\n  learning_rate: 0.00042\n")
    (folder / ".hydra" / "overrides.yaml").write_text("- task=quadruped_velocity\n- task.range=[-1, 1]\n")
    (folder / "videos" / "filmstrip.png").write_bytes(b"strip")
    (folder / "videos" / "final.mp4").write_bytes(b"video")
    whole = {"status": "finished", "mlflow_run_id": "a1b2c3", "metrics": METRICS, "tags": TAGS}
    whole |= {"versions": {"torch": "2.13.0"}, "device": "Some CPU"}
    (folder / "summary.json").write_text(json.dumps(whole | summary))
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Return the report of a whole run."""
    return Page(write_report(make_run(tmp_path_factory.mktemp("quadruped_velocity") / "2026-11-22_0")))


@pytest.mark.parametrize(
    "text", ["0.217 m/s", "231.8", "std 6.5", "3.4 %", "12.3 k tokens/s", "13.6 k env steps/s"]
)
def test_headlines_show_the_policy_and_its_speed(page: Page, text: str) -> None:
    """Every headline number comes from summary.json."""
    assert text in page.text


@pytest.mark.parametrize("text", ["3.10 mJ/token", "3 min 46 s", "81.9 k env steps", "25 %"])
def test_headlines_show_what_it_cost(page: Page, text: str) -> None:
    """Energy, wall time and the physics share, which is 56.5 s of 226 s."""
    assert text in page.text


def test_energy_stands_beside_tier_interval_and_boundary(page: Page) -> None:
    """Total and energy per token carry tier and bounds, and a sentence says what the tier means."""
    assert "estimated, 1.55-9.30" in page.text
    assert "Total 254 J (estimated, 127-762). Boundary: cpu+dram." in page.text
    assert "No hardware counter was readable" in page.text
    assert "The true value lies in [127 J, 762 J], if the model suits this machine." in page.text


def test_shares_have_their_interval_and_outcomes_stand_together() -> None:
    """Of 256 episodes, 90 % that succeed are between 85.7 and 93.1 %; all ends are one line."""
    shares = {"success": 0.9, "off_road": 0.0, "timeout": 0.1}
    metrics = {f"eval/outcome/{name}": share for name, share in shares.items()}
    metrics |= {"eval/return_mean": 1.0, "eval/success_rate": 0.9, "eval/episodes": 256.0}
    found = {headline.label: headline for headline in headlines(metrics, {})}
    assert found["Success rate"].note == "evaluation, 95 % 85.71 to 93.1 % of 256 episodes"
    assert found["Outcomes"].value == "success 90 %, off road 0 %, timeout 10 %"


def test_joules_of_a_run_in_company_are_a_claim(tmp_path: Path) -> None:
    """Beside others the report says whose joules they are, and whose the upper bound is."""
    folder = make_run(tmp_path / "run", tags=TAGS | {"energy.shared": "true"})
    assert "Others computed on the same cores" in report_notes.energy_note(read_run(folder))


def test_every_tier_is_explained() -> None:
    """There is a sentence for whatever tier a metered run can have."""
    assert set(report_notes.TIER_SENTENCES) == set(Tier) - {Tier.NONE}


def test_measured_is_not_said_of_an_estimate(page: Page) -> None:
    """The word belongs to hardware counters."""
    assert "measured" not in page.source.lower()


def test_measured_is_said_of_counters(tmp_path: Path) -> None:
    """A run with hardware counters says so."""
    text = Page(write_report(make_run(tmp_path / "run", tags=TAGS | {"energy.tier": "measured"}))).text
    assert "measured, 1.55-9.30" in text
    assert "The true value lies in [127 J, 762 J] with about 95 % confidence." in text
    assert "No hardware counter" not in text


def test_no_true_value_is_claimed_for_a_recording(tmp_path: Path) -> None:
    """A recorded power is not bounded by what this machine drew."""
    text = Page(write_report(make_run(tmp_path / "run", tags=TAGS | {"energy.tier": "replayed"}))).text
    assert "true value" not in text
    assert "254 J (replayed, 127-762)" in text


def test_parts_and_rest_make_up_the_total(page: Page) -> None:
    """Seconds that no phase took are shown as other; phases and unattributed are all of the joules."""
    time, energy = page.text.split("Where the time went")[1].split("Where the energy went")
    assert re.search(r"sim\s+1 min 53 s\s+50\.0 %", time)
    assert re.search(r"other\s+33\.9 s\s+15\.0 %", time)
    assert re.search(r"unattributed\s+4\.00 J\s+1\.6 %", energy)
    assert "other" not in energy.split("Reward terms")[0]


def test_curves_and_reward_terms_are_drawn(page: Page) -> None:
    """Return over steps and over time, KL, and one panel a reward term, each with a spoken description."""
    labels = re.findall(r'<svg role="img" aria-label="([^"]*)"', page.source)
    assert labels == [
        "Return, training against env steps: from 40 to 200, lowest 40, highest 200",
        "Return, training against wall time (s): from 40 to 200, lowest 40, highest 200",
        "track_velocity: 0.625 against env steps: from 0.25 to 0.625, lowest 0.25, highest 0.625",
        "fall: -0.125 against env steps: from -0.5 to -0.125, lowest -0.5, highest -0.125",
        "Approximate KL against env steps: from 0.01 to 0.05, lowest 0.01, highest 0.05",
    ]


def test_values_are_shown_under_the_pointer(page: Page) -> None:
    """Every point of a short curve has a strip that shows value and position, without a script."""
    first = page.source.split("<svg")[1]
    assert first.count('class="hit"') == 5
    assert "40 at 16.4 k env steps" in first and "200 at 81.9 k env steps" in first
    assert ".hit:hover .tip { visibility: visible; }" in page.source


def test_totals_are_tiles(page: Page) -> None:
    """Energy in watt-hours, cost and carbon of the whole run carry tier and interval."""
    assert re.search(r"Total energy\s+70\.6 mWh\s+estimated, 35\.3-212; 254 J", page.text)
    assert re.search(r"Electricity\s+0\.0250 USD\s+estimated, 0\.0125 to 0\.0750", page.text)
    assert re.search(r"Carbon\s+40\.0 g CO2e\s+estimated, 20\.0 to 120", page.text)


def test_power_is_drawn_over_time(tmp_path: Path) -> None:
    """Power is the increase of the joules over that of the seconds; the row of later stages is left out."""
    folder = make_run(tmp_path / "run")
    with (folder / "metrics.jsonl").open("w") as file:
        for second, joules in ((0, 0.0), (2, 20.0), (4, 60.0), (6, 900.0)):
            metrics = {"time/wall_s": second, "energy/total_j": joules, "train/return_mean": 1.0}
            if second == 6:
                metrics["factory/usd"] = 0.1
            row = {"step": second + 1, "time_unix_s": float(second), "metrics": metrics}
            file.write(json.dumps(row) + "\n")
    text = Page(write_report(folder)).source
    assert "Power (W, estimated) against wall time (s): from 10 to 20, lowest 10, highest 20" in text


def test_losses_of_any_learner_are_drawn(tmp_path: Path) -> None:
    """A loss that no table knows is labelled from its key."""
    folder = make_run(tmp_path / "run")
    row = {"step": 1, "time_unix_s": 0.0, "metrics": {"loss/q_function": 2.0}}
    (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    assert "Q function" in Page(write_report(folder)).text


def test_outcomes_and_metrics_of_episodes_have_curves(tmp_path: Path) -> None:
    """Outcomes come before other metrics of the task, and evaluations are marks on the same panels."""
    folder = make_run(tmp_path / "run")
    with (folder / "metrics.jsonl").open("w") as file:
        for number, share in enumerate((0.25, 0.5, 0.75), start=1):
            metrics = {"train/clearance_min_m": 0.1 * number, "train/outcome/collision": share}
            if number == 3:
                metrics["eval/outcome/collision"] = 0.3125
            row = {"step": number, "time_unix_s": float(number), "metrics": metrics}
            file.write(json.dumps(row) + "\n")
    page = Page(write_report(folder))
    outcome = page.source.index(
        "Outcome collision, training against env steps: from 0.25 to 0.75, lowest 0.25, highest 0.75"
    )
    assert outcome < page.source.index("Clearance min, training (m) against env steps")
    assert "Diamonds: evaluations." in page.text
    assert "0.3125" in page.source[outcome:]


def test_the_command_line_repeats_the_run(page: Page) -> None:
    """Overrides are quoted for a shell; commit and uncommitted changes are told."""
    assert "python -m factory.train task=quadruped_velocity 'task.range=[-1, 1]'" in page.text
    assert "git commit 3e1a9b7c" in page.text
    assert "uncommitted changes" in page.text


def test_configuration_versions_and_ids_are_there(page: Page) -> None:
    """What one needs to look a run up."""
    for text in ("learning_rate: 0.00042", "2.13.0", "a1b2c3", "Some CPU", "go1", "mujoco"):
        assert text in page.text


def test_the_page_needs_nothing_else(page: Page) -> None:
    """No reference leaves the file but the one to the video's own file, and there is no script."""
    outside = [ref for ref in page.references if not ref.startswith(("data:", "#"))]
    assert outside == ["videos/final.mp4"]
    assert "://" not in page.source
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "@import" not in page.source


def test_ids_are_unique_and_references_resolve(page: Page) -> None:
    """Panels drawn one by one do not borrow each other's clip paths."""
    assert len(page.ids) == len(set(page.ids))
    used = re.findall(r"url\(#([^)]+)\)", page.source)
    used += [ref[1:] for ref in page.references if ref.startswith("#")]
    assert used
    assert set(used) <= set(page.ids)


def test_film_and_strip_are_embedded(page: Page) -> None:
    """A small video and the strip travel with the page."""
    assert "data:image/png;base64,c3RyaXA=" in page.references
    assert "data:video/mp4;base64,dmlkZW8=" in page.references


def test_a_large_video_is_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit the page stays small and points at the file."""
    monkeypatch.setattr(report, "MAX_EMBEDDED_VIDEO_BYTES", 3)
    page = Page(write_report(make_run(tmp_path / "run")))
    assert "video" not in page.tags
    assert "videos/final.mp4" in page.references


def test_a_video_of_an_older_policy_says_so(tmp_path: Path) -> None:
    """A run that went on after its video names the step of the policy shown; a current video has no note."""
    folder = make_run(tmp_path / "run")
    steps = int(json.loads((folder / "summary.json").read_text())["metrics"]["factory/env_steps"])
    (folder / "videos" / "policy_000000016.mp4").write_bytes(b"old")
    (folder / "videos" / f"policy_{steps:09d}.mp4").write_bytes(b"new")
    text = " ".join(Page(write_report(folder)).text.split())
    assert "policy_000000016.mp4 (an older policy, of step 16)" in text
    assert text.count("an older policy") == 1


def test_a_whole_run_misses_nothing(page: Page) -> None:
    """No box of missing pieces without a reason."""
    assert "What is missing" not in page.text


def test_an_interrupted_run_says_so(tmp_path: Path) -> None:
    """Status and last known figures."""
    metrics = {"train/return_mean": 77.25, "time/wall_s": 9.0}
    text = Page(write_report(make_run(tmp_path / "run", status="interrupted", metrics=metrics))).text
    assert "The run did not finish (status: interrupted)" in text
    assert "No evaluation" in text
    assert "not metered" in text
    assert "77.25" in text


def test_an_empty_folder_gets_a_report(tmp_path: Path) -> None:
    """Nothing at all is still a page, which lists what it lacks."""
    text = Page(write_report(tmp_path)).text
    for name in (
        "summary.json",
        "metrics.jsonl",
        "config.yaml",
        "overrides.yaml",
        "No video",
        "No evaluation",
    ):
        assert name in text


def test_without_a_summary_the_last_iteration_counts(tmp_path: Path) -> None:
    """A killed run's figures come from metrics.jsonl."""
    folder = make_run(tmp_path / "run")
    (folder / "summary.json").unlink()
    text = Page(write_report(folder)).text
    assert "No summary.json" in text
    assert re.search(r"Return\s+200\s+training", text)


def test_text_of_the_user_is_escaped(tmp_path: Path) -> None:
    """Markup in the configuration, a tag or a reward term stays text."""
    tag = "<script>alert('x')</script> & \"more\""
    folder = make_run(tmp_path / "run", tags=TAGS | {"robot": tag, "energy.boundary": tag}, device=tag)
    (folder / "config.yaml").write_text(f"note: {tag}\n")
    (folder / ".hydra" / "overrides.yaml").write_text("- 'note=<b>&amp;'\n")
    (folder / "reward_terms.csv").write_text("step,<i>term</i>\n1,2\n")
    page = Page(write_report(folder))
    assert not {"script", "b", "i"} & set(page.tags)
    assert f"note: {tag}" in page.text
    assert "'note=<b>&amp;'" in page.text


def test_figures_that_are_not_finite_are_gaps(tmp_path: Path) -> None:
    """A run that diverged gets its report too."""
    folder = make_run(tmp_path / "run", metrics={"eval/return_mean": float("nan"), "time/wall_s": 1.0})
    with (folder / "metrics.jsonl").open("a") as file:
        for number, value in enumerate((float("nan"), float("inf"))):
            metrics = {"train/return_mean": value}
            file.write(json.dumps({"step": 10**6 + number, "time_unix_s": 1.8e9, "metrics": metrics}) + "\n")
    text = Page(write_report(folder)).text
    assert re.search(r"Return\s+-\s+evaluation", text)


def test_long_runs_are_grouped(tmp_path: Path) -> None:
    """Thousands of iterations stay a small page, and the page says what the line is."""
    folder = make_run(tmp_path / "run")
    (folder / "reward_terms.csv").unlink()
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(3000):
            record = {"step": step, "time_unix_s": 1.79e9 + step, "metrics": {"train/return_mean": step % 10}}
            file.write(json.dumps(record) + "\n")
    page = Page(write_report(folder))
    assert "means of 300 groups" in page.text
    assert len(page.source) < 150_000


def test_the_same_folder_gives_the_same_page(tmp_path: Path) -> None:
    """A report is a pure function of the run folder."""
    folder = make_run(tmp_path / "run")
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The message names what was given."""
    with pytest.raises(ValueError, match="nowhere"):
        write_report(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ({"is_exact": True, "is_exact_over_resumes": True, "torch_threads": 3}, "bit for bit"),
        ({"is_exact": True, "is_exact_over_resumes": False, "torch_threads": 3}, "starts new episodes"),
        ({"is_exact": False}, "alike, not equal"),
    ],
)
def test_page_says_when_the_command_gives_the_same_weights(
    tmp_path: Path, conditions: dict[str, Any], said: str
) -> None:
    """One sentence beside the command, only where the summary has the conditions."""
    page = Page(write_report(make_run(tmp_path / "run", determinism=conditions)))
    assert said in page.text
    assert ("torch threads: 3" in page.text) == conditions["is_exact"]
    assert "same weights" not in Page(write_report(make_run(tmp_path / "older"))).text
