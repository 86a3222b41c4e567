"""Calibrations: ratios within a round, promises, and a file that survives strangers and later versions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from factory import options
from factory.cli import single_job
from factory.floor import command_line
from factory.power import calibrate, verification
from factory.power.calibrate import Sample
from factory.power.verification import Verification, Verifications

JOB = ["task=cartpole_swingup", "num_envs=4", "learner.num_steps=4", "learner.num_minibatches=2"]
options.register()


def fake_measure(job: list[str]) -> Sample:
    """Return a training's result by its profile; the machine slows down with every call."""
    name = job[-1].partition("=")[2] if job[-1].startswith("profile=") else "capped"
    fake_measure.calls += 1  # type: ignore[attr-defined]
    speed, watts = {
        "max_performance": (1000.0, 10.0),
        "balanced": (980.0, 9.0),
        "efficiency": (800.0, 7.0),
        "capped": (500.0, 7.5),
    }[name]
    slowdown = 1.0 - 0.01 * fake_measure.calls  # type: ignore[attr-defined]
    weights = "other" if name == "balanced" and fake_measure.calls > 5 else "same"  # type: ignore[attr-defined]
    return Sample(
        tokens_per_s=speed * slowdown,
        watts=watts,
        joules_per_token=watts / speed / slowdown,
        cpu_s_per_token=1e-3,
        tier="estimated",
        weights=weights,
        enforced="nothing",
    )


@pytest.fixture(scope="module")
def results() -> dict[str, Verification]:
    """Return a calibration of three profiles with known speeds."""
    fake_measure.calls = 0  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrate, "measure", fake_measure)
        found = calibrate.calibrate(JOB, ["balanced", "efficiency", "capped"], rounds=3)
    return {entry.profile: entry for entry in found}


def test_profiles_are_compared_within_their_round(results: dict[str, Verification]) -> None:
    """Ratios are those of the yardstick, although the machine became slower from call to call."""
    assert results["max_performance"].speed_ratio == 1.0
    assert results["balanced"].speed_ratio == pytest.approx(0.98, abs=0.03)
    assert results["efficiency"].watts_ratio == pytest.approx(0.7)
    assert results["efficiency"].joules_ratio == pytest.approx(7.0 / 0.8 / 10.0, abs=0.03)


def test_promises_are_checked(results: dict[str, Verification]) -> None:
    """A profile that is too slow, or above its limit, has not kept its promise."""
    assert {name: entry.is_kept for name, entry in results.items()} == {
        "max_performance": True,
        "balanced": results["balanced"].speed_ratio >= 0.97,
        "efficiency": False,
        "capped": True,
    }
    assert results["efficiency"].text().startswith("promise not kept: 0.8")
    # 75 % of the watts of the yardstick.
    assert results["capped"].settings["watts"] == 7.5


def test_weights_that_differ_are_told(results: dict[str, Verification]) -> None:
    """Equal means equal in all rounds, and equal to the yardstick's."""
    assert not results["balanced"].has_equal_weights
    assert results["efficiency"].has_equal_weights
    assert "weights differ" in results["balanced"].text()


def test_run_shows_the_calibration_of_its_settings(
    results: dict[str, Verification], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the same profile, with the same settings, task and machine, counts as tested."""
    monkeypatch.setenv("FACTORY_STATE_DIR", str(tmp_path))
    profile = single_job([*JOB, "profile=efficiency"]).profile
    say = lambda cfg, task: verification.text(cfg, task=task, device="cpu")  # noqa: E731
    assert say(profile, "cartpole_swingup") == "untested here"
    Verifications().add(results.values())
    assert say(profile, "cartpole_swingup") == results["efficiency"].text()
    assert say(profile, "quadruped_velocity") == "untested here"
    changed = single_job([*JOB, "profile=efficiency", "profile.cores=1"]).profile
    assert say(changed, "cartpole_swingup") == "untested here"


def test_later_calibration_replaces_the_earlier(results: dict[str, Verification], tmp_path: Path) -> None:
    """One result for a profile, task and machine; others stay."""
    stored = Verifications(tmp_path / "folder" / "profiles.json")
    stored.add(results.values())
    stored.add([results["balanced"]])
    assert sorted(entry.profile for entry in stored.read()) == sorted(results)


@pytest.fixture
def floor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs `floor profile` and returns status, output and errors."""
    monkeypatch.setenv("FACTORY_STATE_DIR", str(tmp_path))

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            command_line.main(["profile", *arguments])
        shown = capsys.readouterr()
        return int(str(stop.value.code)), shown.out, shown.err

    return run


@pytest.mark.parametrize("content", ["", "[]", '{"schema": "factory.profiles/9"}'])
def test_file_of_another_layout_is_left_alone(
    content: str, tmp_path: Path, floor: Callable[..., tuple[int, str, str]]
) -> None:
    """The command ends in one line before it measures; a run shows the line and goes on."""
    path = tmp_path / "profiles.json"
    path.write_text(content)
    status, _, err = floor("--calibrate", *JOB)
    assert (status, err.count("\n")) == (2, 1)
    assert "profiles.json" in err
    assert path.read_text() == content
    profile = single_job([*JOB, "profile=efficiency"]).profile
    assert "profiles.json" in verification.text(profile, task="cartpole_swingup", device="cpu")


def test_list_shows_every_profile(
    results: dict[str, Verification], floor: Callable[..., tuple[int, str, str]]
) -> None:
    """Intent, promise, and results of this machine or `untested here`."""
    Verifications().add([results["capped"]])
    status, shown, _ = floor()
    assert status == 0
    for name in options.choices("profile"):
        assert f"{name:<16} {calibrate.shipped(name).intent}" in shown
    assert results["capped"].text() in shown
    assert shown.count("untested here") == len(options.choices("profile")) - 2
    _, shown, _ = floor("--json")
    assert [entry["profile"] for entry in json.loads(shown)] == ["capped"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["efficiency"], "add --calibrate"),
        (["--calibrate", *JOB, "eficiency"], "eficiency: no such profile; choose efficiency"),
        ([*JOB, "--calibrate", "profile=capped"], "profile=capped: a calibration sets profile itself"),
        (["--calibrate", *JOB, "energy=null"], "energy=null: a calibration needs a meter"),
        (["--calibrate", "task=walking"], "task=walking: "),
        (["--calibrate", "--rounds", "0"], "--rounds=0: must be in [1, 10000]"),
        (["--calibrate", "--iterations", "3"], "--iterations=3: must be in [4, 10000]"),
        (["--bogus"], "--bogus: no such argument of profile"),
    ],
)
def test_mistake_is_one_line(
    arguments: list[str], message: str, floor: Callable[..., tuple[int, str, str]]
) -> None:
    """Status 2, the argument and the remedy; nothing is measured."""
    status, _, err = floor(*arguments)
    assert (status, err.count("\n")) == (2, 1)
    assert message in err


def test_training_that_fails_ends_the_calibration(
    floor: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Status 1, one line, and nothing is kept."""

    def fail(job: list[str]) -> Sample:
        raise RuntimeError("training with profile=max_performance ended with status 1: no space left")

    monkeypatch.setattr(calibrate, "measure", fail)
    status, _, err = floor("--calibrate", *JOB)
    assert (status, err.count("\n")) == (1, 1)
    assert "no space left" in err
    assert not (tmp_path / "profiles.json").exists()


@pytest.mark.slow
def test_calibration_measures_real_trainings(tmp_path: Path) -> None:
    """Short trainings with two profiles have equal weights, joules and CPU time."""
    job = [*JOB, "runtime.torch_threads=1", "energy=estimate"]
    found = calibrate.calibrate(job, ["efficiency"], rounds=1, iterations=5)
    yardstick, efficiency = found
    assert efficiency.has_equal_weights
    assert efficiency.tier == "estimated"
    assert min(efficiency.watts, efficiency.joules_per_token, efficiency.cpu_s_per_token) > 0.0
    assert yardstick.speed_ratio == 1.0
