"""The profiles that come with the package, and the mistakes in using them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from factory import options
from factory.cli import single_job
from factory.power.config import ProfileConfig

JOB = ("task=cartpole_swingup", "num_envs=4", "learner.num_steps=4", "learner.num_minibatches=2")
PROFILES = options.choices("profile")
options.register()


def test_default_asks_for_nothing() -> None:
    """A run without a profile is one of `profile=default`, which no actuator acts on."""
    assert single_job(JOB).profile == single_job([*JOB, "profile=default"]).profile == ProfileConfig()


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_says_its_purpose(name: str) -> None:
    """A profile is named as its file, and has an intent; a promised speed stands in the promise."""
    profile = single_job([*JOB, f"profile={name}", "profile.watts=50"]).profile
    assert (profile.name, profile.intent.endswith(".")) == (name, True)
    assert not profile.min_speed or f"{profile.min_speed:.0%}".replace("%", " %") in profile.promise


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["profile=capped"], "profile.watts=0.0: profile=capped needs a limit; add profile.watts=<W>"),
        (["profile.watts=-1"], "profile.watts=-1.0: must be 0"),
        (["profile.nice=-5"], r"profile.nice=-5: must be in \[0, 19\]"),
        (["profile.clock_share=0"], "profile.clock_share=0.0: must be in"),
        (["profile.cores=-1"], "profile.cores=-1: must be 0"),
        (["profile.spin=-2"], "profile.spin=-2: must be in"),
        (["profile.workload_profile=255"], "profile.workload_profile=255: must be in"),
        (["profile=capped", "profile.watts=9", "energy=null"], "profile.watts=9.0: energy=null meters no"),
    ],
)
def test_mistake_is_one_line(arguments: list[str], message: str) -> None:
    """The line names the key, the value and the remedy."""
    with pytest.raises(ValueError, match=message):
        single_job([*JOB, *arguments])


@pytest.mark.slow
def test_run_tells_its_profile_and_gives_its_cpus_back(
    command_line: Callable[..., None], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tags, console and report have the profile; afterwards the process has its CPUs again."""
    monkeypatch.setenv("FACTORY_STATE_DIR", "state")
    before = os.sched_getaffinity(0)
    quick = ("tracking=null", "runtime.video_s=0", "runtime.eval_episodes=1", "energy=estimate")
    command_line(*JOB, *quick, "total_steps=64", "profile=memory_bound", "profile.cores=1")
    (summary,) = Path.cwd().rglob("summary.json")
    tags = json.loads(summary.read_text())["tags"]
    first = str(min(before))
    assert {key: value for key, value in tags.items() if key.startswith("power/")} == {
        "power/profile": "memory_bound",
        "power/asked": f"cores {first}",
        "power/enforced": f"cores {first}",
        "power/verified": "untested here",
    }
    shown = capfd.readouterr().out
    assert f"profile=memory_bound: cores asked {first}, enforced {first}" in shown
    assert "power/enforced" in (summary.parent / "report.html").read_text()
    assert os.sched_getaffinity(0) == before
    assert not Path("state").exists()
