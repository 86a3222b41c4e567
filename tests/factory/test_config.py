"""Every choice composes, every value is documented, and a configuration survives being written down."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf

import factory.config as config
import factory.evaluate
from factory import cli, options
from factory.cli import jobs
from factory.config import TrainConfig
from factory.registry import REGISTRIES, TASKS
from factory.training.build import make_env

options.register()
CHOICES = [
    (group, option)
    for group in options.GROUPS
    for option in options.choices(group)
    # Which engine these stand for depends on the task: tests/envs/core/test_episode_env.py.
    if (group, option) not in (("physics", "auto"), ("physics", "none"))
]


def composed(*overrides: str) -> TrainConfig:
    """Return the configuration that Hydra composes."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(options.CONF_DIR), version_base="1.3"):
        return config.from_hydra(compose("train", overrides=list(overrides)))


def schemas(schema: type = TrainConfig) -> Iterator[type]:
    """Yield every dataclass that a configuration is made of, those of the tasks included."""
    yield schema
    for field in dataclasses.fields(schema):
        default = field.default_factory() if callable(field.default_factory) else None
        if dataclasses.is_dataclass(default):
            yield from schemas(type(default))
    if schema is TrainConfig:
        for classes in REGISTRIES.values():
            for component in classes.values():
                yield from schemas(component)
        yield factory.evaluate.EvaluateConfig


def test_every_folder_of_choices_is_a_group() -> None:
    """`conf/` and the list that `--help` and the checks go by name the same groups."""
    folders = {path.relative_to(options.CONF_DIR).parts[0] for path in options.CONF_DIR.glob("*/**/*.yaml")}
    assert folders - {"hydra", "site"} == set(options.GROUPS)


@pytest.mark.slow
@pytest.mark.parametrize(("group", "option"), CHOICES, ids=lambda value: str(value))
def test_every_choice_composes(group: str, option: str) -> None:
    """Each option of each group, every experiment among them, makes a checked configuration."""
    complete = options.example(option)[1:] if group == "task" else []
    complete += ["energy.replay_path=power.csv"] * (option == "replay")
    complete += ["profile.watts=9"] * (option == "capped")
    cfg = composed(f"{group}='{option}'", *complete)
    part = getattr(cfg, group, None)
    names = {getattr(part, key) for key in ("name", "kind", "source") if hasattr(part, key)}
    assert names <= {option}


@pytest.mark.parametrize("task", options.choices("task"))
def test_every_task_builds_its_environment(task: str) -> None:
    """Each task's configuration fits its registered environment, whose time limit it sets."""
    cfg = composed(*options.example(task))
    assert type(cfg.task) is TASKS[task]
    rows = cfg.task.whole_worlds(2)
    env = make_env(cfg, num_envs=rows)
    assert env.num_envs == rows
    assert env.unwrapped.max_episode_steps == (cfg.task.max_episode_steps or 500)
    env.close()


@pytest.mark.parametrize("task", options.choices("task"))
def test_configuration_survives_being_written_down(task: str) -> None:
    """Plain containers, JSON and YAML all come back as the same configuration, overrides included."""
    cfg = composed(
        *options.example(task),
        "learner.num_epochs=7",
        "policy.actor_hidden=[8,9]",
        "task.return_threshold=12.5",
        "energy.site.pue=1.5",
        "resume=",
        "seed=3",
    )
    plain = config.to_plain(cfg)
    assert config.from_plain(plain) == cfg
    assert config.from_plain(json.loads(json.dumps(plain))) == cfg
    assert config.from_plain(yaml.safe_load(yaml.safe_dump(plain))) == cfg
    assert type(config.from_plain(plain).task) is type(cfg.task)


def test_overrides_reach_their_fields() -> None:
    """A value given on the command line is the one the dataclass holds."""
    cfg = composed(
        "learner.learning_rate=3e-4", "task=cartpole_swingup", "task.reset_noise=0.2", "num_envs=8"
    )
    learner: Any = cfg.learner
    task: Any = cfg.task
    assert (learner.learning_rate, task.reset_noise, cfg.num_envs) == (3e-4, 0.2, 8)


def test_command_line_wins_over_experiment_and_task() -> None:
    """An experiment overrides its task's file, and the command line overrides both."""
    smoke = OmegaConf.load(options.CONF_DIR / "experiment" / "smoke.yaml")
    assert composed("experiment=smoke").num_envs == smoke.num_envs
    assert composed("experiment=smoke", "num_envs=3", "learner.num_minibatches=2").num_envs == 3


def test_robot_of_the_job_is_that_of_its_task() -> None:
    """`robot=` reaches the task, and its short name is what tags show."""
    assert composed("robot=default").task.robot == "default"
    cfg = composed("robot=menagerie:unitree_go1")
    assert cfg.task.robot == "menagerie:unitree_go1"


@pytest.mark.parametrize(
    "schema", sorted(set(schemas()), key=lambda cls: cls.__name__), ids=lambda cls: cls.__name__
)
def test_every_field_is_documented(schema: type) -> None:
    """A docstring follows each field that a class adds; a new default for an inherited field needs none."""
    inherited = {
        name
        for base in schema.__mro__[1:]
        if dataclasses.is_dataclass(base)
        for name in inspect.get_annotations(base)
    }
    body = ast.parse(textwrap.dedent(inspect.getsource(schema))).body[0].body  # type: ignore[attr-defined]
    undocumented = [
        statement.target.id
        for statement, following in zip(body, [*body[1:], None], strict=True)
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        if statement.target.id not in inherited
        if not (isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant))
    ]
    assert not undocumented, f"{schema.__name__}: no docstring under {', '.join(undocumented)}"


def test_help_lists_every_choice_and_copyable_examples() -> None:
    """`--help` names each option of each group and gives at least five commands."""
    text = options.help_text()
    for group, option in CHOICES:
        row = next(line for line in text.splitlines() if line.split()[:1] == [group])
        assert option in row.split()[1:], f"{group}={option} is not in --help"
    assert len(_examples(text)) >= 5


@pytest.mark.parametrize(
    "example", re.findall(r"^  (python -m factory\.train.*)$", options.help_text(), re.MULTILINE)
)
def test_examples_of_the_help_compose(example: str) -> None:
    """Each example can be copied: what it sets exists and is allowed."""
    arguments = [argument for argument in example.split()[3:] if not argument.startswith(("-", "resume="))]
    for job in jobs._jobs(arguments):
        composed(*job)


def test_help_is_what_the_command_prints(command_line, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m factory.train --help` prints it and trains nothing."""
    with contextlib.suppress(SystemExit):
        command_line("--help")
    assert options.help_text().strip() in capsys.readouterr().out
    assert not list(Path.cwd().iterdir())


def test_job_is_named_by_its_task_and_environment() -> None:
    """Folders and experiments of `task=gymnasium` name the environment, too; those of others the task."""
    assert config.label(composed("task=cartpole_swingup")) == "cartpole_swingup"
    cfg = composed("task=gymnasium", "env_id=CartPole-v1")
    assert config.label(cfg) == "gymnasium/CartPole-v1"
    cases = (options.example("gymnasium"), "gymnasium/CartPole-v1"), (["seed=1"], "quadruped_velocity")
    for overrides, folder in cases:
        assert cli.compose_config(overrides)[1].parent == Path("outputs") / folder


@pytest.mark.parametrize("given", ["task.kwargs={g:9.5,nested:{deep:1}}", "task.kwargs.g=9.5"])
def test_mappings_take_any_key(given: str) -> None:
    """Keywords of an environment can be given one by one or together; other parts of a task stay closed."""
    kwargs = composed("task=gymnasium", "env_id=Pendulum-v1", given).task.env_kwargs()["kwargs"]
    assert kwargs["g"] == 9.5
    assert kwargs.get("nested", {"deep": 1}) == {"deep": 1}
    with pytest.raises(HydraException):
        composed("task=gymnasium", "env_id=Pendulum-v1", "task.anything=1")


def test_settings_are_checked_without_heavy_libraries() -> None:
    """Composing and checking a job, options and help included, loads no torch, MuJoCo, Numba or MLflow."""
    code = (
        "import sys; from hydra import compose, initialize_config_dir; from factory import config, options\n"
        "options.load_plugins(); options.help_text(); options.keys()\n"
        "with initialize_config_dir(str(options.CONF_DIR), version_base='1.3'):\n"
        "    config.from_hydra(compose('train', overrides=['experiment=smoke']))\n"
        "print(sorted({'torch', 'mujoco', 'numba', 'mlflow'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (found.stdout.strip(), found.stderr) == ("[]", "")


def test_keys_are_all_there() -> None:
    """The list that misspelt keys are compared with has top-level, nested and task keys."""
    assert {"num_envs", "learner.gamma", "energy.site.pue", "task.reset_noise", "task.gait_hz"} <= set(
        options.keys()
    )


def _examples(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("  python -m factory.train")]
