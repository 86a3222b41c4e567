"""Arguments as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from factory import cli, options
from factory.cli import spelling
from factory.cli.errors import one_line
from factory.config import TrainConfig

TASKS = options.choices("task")
KEYS = (*options.GROUPS, *options.keys())


def job(*arguments: str) -> TrainConfig:
    """Return the job that a command line asks for, without building it."""
    from factory.cli import jobs

    cfg, _ = cli.compose_config(jobs._spelled_out(spelling.join_flags(arguments, KEYS)))
    return cfg


@pytest.mark.parametrize(
    ("arguments", "key", "value"),
    [
        (["total_steps=1e6"], "total_steps", 1_000_000),
        (["total_steps=2.5e5"], "total_steps", 250_000),
        (["--seed", "7"], "seed", 7),
        (["--seed=7"], "seed", 7),
        (["--num-envs", "1e2"], "num_envs", 100),
        (["--num_envs=64"], "num_envs", 64),
    ],
)
def test_whole_numbers_and_flags_are_taken(arguments: list[str], key: str, value: int) -> None:
    """Scientific notation is a whole number where one is asked for, and a dashed flag is its key."""
    assert getattr(job("task=cartpole_swingup", *arguments), key) == value


def test_a_list_needs_no_brackets() -> None:
    """Numbers with commas are a list where the key holds one."""
    cfg = job("task=cartpole_swingup", "policy.actor_hidden=64,32", "policy.critic_hidden=[8]")
    assert cfg.policy.actor_hidden == [64, 32]  # type: ignore[attr-defined]
    assert cfg.policy.critic_hidden == [8]  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", ["1e-3", "1.5", "1e", "many"])
def test_what_is_no_whole_number_stays_a_mistake(value: str) -> None:
    """Nothing is rounded in silence."""
    with pytest.raises(HydraException) as caught:
        job("task=cartpole_swingup", f"seed={value}")
    message = one_line(caught.value)
    assert message.startswith(f"seed={value}: Value")
    assert message.endswith("could not be converted to Integer")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("HalfCheetah-v5", "gym/half_cheetah"),
        ("factory/HalfCheetah-v5", "gym/half_cheetah"),
        ("half_cheetah", "gym/half_cheetah"),
        ("halfcheetah", "gym/half_cheetah"),
        ("Ant", "gym/ant"),
        ("QuadrupedVelocity-v0", "quadruped_velocity"),
        ("gym/ant", "gym/ant"),
        ("gymnasium", "gymnasium"),
        ("unheard_of", "unheard_of"),
    ],
)
def test_tasks_are_known_by_their_other_names(written: str, meant: str) -> None:
    """Gymnasium's ids and names without their folder mean the task; what is no name stays as it is."""
    assert spelling.task_name(written, TASKS) == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("unitree_go1", "menagerie:unitree_go1"),
        ("default", "default"),
        ("mine", "mine"),
        ("file:dog.xml", "file:dog.xml"),
        ("menagerie:unitree_go2", "menagerie:unitree_go2"),
    ],
)
def test_a_bare_name_is_a_robot_of_the_menagerie(written: str, meant: str) -> None:
    """Registered robots come first."""
    assert spelling.robot_name(written, ("mine",)) == meant


@pytest.mark.parametrize(
    ("key", "first"),
    [
        ("lr", "learner.learning_rate"),
        ("learning_rate", "learner.learning_rate"),
        ("gamma", "learner.gamma"),
        ("sed", "seed"),
        ("learner.learningrate", "learner.learning_rate"),
        ("steps", "total_steps"),
    ],
)
def test_near_keys_come_first(key: str, first: str) -> None:
    """A key from elsewhere, or one with a slip, is answered with the key that was meant."""
    assert spelling.near_keys(key, KEYS)[0] == first


def test_unknown_flags_are_left_to_hydra() -> None:
    """Flags of Hydra's own are no keys, and a key without its value is a mistake."""
    assert spelling.join_flags(["--cfg", "job", "-m", "--info"], KEYS) == ["--cfg", "job", "-m", "--info"]
    with pytest.raises(ValueError, match="--seed: give a value, seed=<value>"):
        spelling.join_flags(["--seed"], KEYS)
    with pytest.raises(ValueError, match="--seed: give a value"):
        spelling.join_flags(["--seed", "task=gym/ant"], KEYS)


@pytest.mark.parametrize(
    "folder",
    [
        "plain",
        "o'brien",
        "two words",
        "a=b,c",
        "[1]",
        "{x: 1}",
        "back\\slash",
        "tr\\",
        "q\\'x",
        "\u00fcn\u00ef",
        '"quoted"',
    ],
)
def test_any_path_survives_hydra(folder: str) -> None:
    """A quoted path is read back as it was."""
    override = OverridesParser.create().parse_override(f"resume={spelling.quoted(Path(folder))}")
    assert override.value() == folder


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
@pytest.mark.parametrize(
    "key", ["runtime.video_s", "policy.init_std", "learner.learning_rate", "task.reset_noise"]
)
def test_settings_are_finite(key: str, value: str) -> None:
    """No number may be infinite or undefined, whichever component it belongs to."""
    with pytest.raises(ValueError, match=f"{key}=.*: must be finite"):
        job("task=cartpole_swingup", f"{key}={value}")
