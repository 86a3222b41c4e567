"""Exploits in the configuration of a run folder: none runs code, reads elsewhere or goes unnoticed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tamper import edit_json

CANARY = "import pathlib; pathlib.Path(__file__).with_name('it ran').touch()\n"

Change = Callable[[dict[str, Any], Path], None]


def put(key: str, value: Any) -> Change:
    """Return a change of one value; `{folder}` in it is the stranger's folder."""

    def change(config: dict[str, Any], folder: Path) -> None:
        *groups, last = key.split(".")
        for group in groups:
            config = config.setdefault(group, {})
        config[last] = _filled(value, folder)

    return change


def _filled(value: Any, folder: Path) -> Any:
    if isinstance(value, str):
        return value.replace("{folder}", str(folder))
    if isinstance(value, list):
        return [_filled(item, folder) for item in value]
    if isinstance(value, dict):
        return {key: _filled(item, folder) for key, item in value.items()}
    return value


def gymnasium_task(**more: Any) -> Change:
    """Return a change to the task of a Gymnasium environment."""

    def change(config: dict[str, Any], folder: Path) -> None:
        task = {
            "name": "gymnasium",
            "id": "factory/Gymnasium-v0",
            "env_id": "CartPole-v1",
            "robot": "default",
        }
        config["task"] = task | {
            key: _filled(value, folder) for key, value in more.items() if key != "env_id"
        }
        config["env_id"] = more.get("env_id", "CartPole-v1")
        config["task"]["env_id"] = config["env_id"]

    return change


def task_of_a_plugin(config: dict[str, Any], folder: Path) -> None:
    """Change the task to one that only a file registers."""
    put("task.name", "evil_task")(config, folder)
    put("plugins", ["{folder}/evil.py"])(config, folder)


CODE: dict[str, tuple[Change, str]] = {
    "plug-in in the folder": (put("plugins", ["{folder}/evil.py"]), "add 'plugins=["),
    "plug-in of the task": (task_of_a_plugin, "/evil.py]'"),
    "module of an environment": (gymnasium_task(env_id="evil:Evil-v0"), "add env_id=evil:Evil-v0"),
    "module of an environment, in the task alone": (put("task.env_id", "evil:Evil-v0"), "evil:Evil-v0"),
    "wrapper": (gymnasium_task(wrappers=["evil:Wrap"]), "add 'task.wrappers=[evil:Wrap]'"),
    "wrapper from the standard library": (
        gymnasium_task(wrappers=["os:system"]),
        "task.wrappers=[os:system]",
    ),
    "file among the keywords": (gymnasium_task(kwargs={"xml_file": "/etc/passwd"}), "task.kwargs="),
    "address among the keywords": (gymnasium_task(kwargs={"a": [{"b": "http://x"}]}), "task.kwargs="),
    "keyword that is none": (gymnasium_task(kwargs={"a b": 1}), "task.kwargs="),
    "_target_ among the keywords": (
        gymnasium_task(kwargs={"_target_": "evil.run", "x": "a.b"}),
        "task.kwargs=",
    ),
    "robot elsewhere": (put("robot", "file:/etc/passwd"), "robot=file:/etc/passwd"),
    "robot elsewhere, in the task alone": (put("task.robot", "file:/etc/passwd"), "file:/etc/passwd"),
    "robot that climbs": (put("robot", "file:{folder}/../../secret.xml"), "robot=file:"),
    "robot that climbs in a collection": (put("robot", "menagerie:../../evil"), "robot=menagerie:../../evil"),
    "component that is a class": (put("task.name", "evil:Evil"), "task=evil:Evil"),
    "component that is an override": (put("policy.name", "mlp hydra.run.dir=/tmp"), "policy=mlp hydra"),
    "component that is a mapping": (put("learner.name", {"_target_": "os.system"}), "learner="),
    "_target_ at the top": (put("_target_", "os.system"), "_target_"),
    "_target_ in a group": (put("learner._target_", "os.system"), "_target_"),
    "no task": (put("task", None), "task"),
    "a list for a group": (put("policy", [1, 2]), "policy"),
    "number that is not finite": (put("learner.learning_rate", float("inf")), "finite"),
    "layers beyond all memory": (put("policy.actor_hidden", [60_000, 60_000]), "numbers than the"),
    "layer beyond all memory": (put("policy.critic_hidden", [10**12]), "policy.critic_hidden="),
    "text for a number": (put("num_envs", "many"), "num_envs"),
}
"""Name -> change of the configuration, and part of the line that answers it."""
LEAKS: dict[str, tuple[Change, str]] = {
    "server": (put("tracking", {"kind": "mlflow", "uri": "http://127.0.0.1:9"}), "add tracking.uri="),
    "database": (put("tracking", {"kind": "mlflow", "uri": "sqlite:////tmp/x.db"}), "add tracking.uri="),
    "folder of runs": (put("output_root", "/var/tmp/elsewhere"), "add output_root=/var/tmp/elsewhere"),
    "folder of runs that climbs": (put("output_root", "../../elsewhere"), "output_root=../../elsewhere"),
    "folder of runs at home": (put("output_root", "~/.ssh"), "output_root="),
    "recording of energy": (put("energy.replay_path", "/etc/passwd"), "energy.replay_path=/etc/passwd"),
    "tree of counters": (put("energy.rapl_root", "/proc/self"), "energy.rapl_root=/proc/self"),
    "environments beyond all memory": (put("num_envs", 10**12), "num_envs="),
}
"""The same, for what only a resumed training uses."""


def prepare(stranger: Path, change: Change) -> None:
    """Put a module that leaves a trace beside the run, where a path could find it, and change the run."""
    (stranger / "evil.py").write_text(CANARY)
    edit_json(stranger, "config.json", lambda config: change(config, stranger))


def listing(*folders: Path) -> list[tuple[str, int]]:
    """Return every file with its time of change."""
    paths = (path for folder in folders for path in folder.rglob("*"))
    return sorted((str(path), path.lstat().st_mtime_ns) for path in paths if path.is_file())


def assert_refused(result: tuple[int, str, str], expected: str, stranger: Path) -> None:
    status, _, err = result
    assert (status, err.count("\n")) == (2, 1), err
    assert err.startswith("error: ") and expected in err, err
    assert not (stranger / "it ran").exists()
    assert "evil" not in sys.modules


@pytest.mark.parametrize("name", CODE)
@pytest.mark.parametrize("module", ["evaluate", "train"])
def test_code_and_files_have_to_be_named(
    stranger: Path, command: Callable[..., tuple[int, str, str]], module: str, name: str
) -> None:
    """One line asks for it, status 2; nothing ran, and nothing was written."""
    change, expected = CODE[name]
    prepare(stranger, change)
    before = listing(stranger, Path.cwd())
    key = {"evaluate": "run", "train": "resume"}[module]
    result = command(module, f"{key}={stranger}")
    assert_refused(result, expected, stranger)
    assert listing(stranger, Path.cwd()) == before


@pytest.mark.parametrize("name", LEAKS)
def test_places_outside_have_to_be_named(
    stranger: Path, command: Callable[..., tuple[int, str, str]], name: str
) -> None:
    """A resumed training contacts no server and opens no folder that only the run folder names."""
    change, expected = LEAKS[name]
    prepare(stranger, change)
    before = listing(stranger, Path.cwd())
    assert_refused(command("train", f"resume={stranger}", "total_steps=128"), expected, stranger)
    assert listing(stranger, Path.cwd()) == before


def test_environment_is_not_interpolated(
    stranger: Path, command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`${oc.env:...}` in a run folder is a text: the secret is neither shown nor written."""
    monkeypatch.setenv("PLANTED", "hunter2-hunter2")
    secret = "${oc.env:PLANTED}"
    prepare(stranger, put("robot", secret))
    status, out, err = command("evaluate", f"run={stranger}")
    assert status == 2 and "hunter2" not in out + err
    prepare(stranger, put("robot", "default"))
    edit_json(stranger, "config.json", lambda config: config["runtime"].update(renderer=secret))
    status, out, err = command("train", f"resume={stranger}", "total_steps=128")
    assert status == 2 and "hunter2" not in out + err
    assert not any(b"hunter2" in path.read_bytes() for path in stranger.rglob("*") if path.is_file())


def test_stored_overrides_are_not_composed(
    stranger: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    """Overrides in `.hydra` change nothing, nor do Hydra's own files there."""
    for name in ("overrides.yaml", "config.yaml", "hydra.yaml"):
        evil = f"- plugins=[{stranger}/evil.py]\n- hydra.searchpath=[file://{stranger}]\n- seed=7\n"
        (stranger / ".hydra" / name).write_text(evil)
    (stranger / "evil.py").write_text(CANARY)
    status, _, err = command("train", f"resume={stranger}", "total_steps=96")
    assert status == 0, err
    assert not (stranger / "it ran").exists()
    assert "seed: 0" in (stranger / "config.yaml").read_text()


def test_what_the_user_names_is_used(stranger: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    """With the very argument that the line asks for, the plug-in runs."""
    (stranger / "kindly_named.py").write_text(CANARY)
    edit_json(stranger, "config.json", lambda c: c.update(plugins=[str(stranger / "kindly_named.py")]))
    _, _, err = command("evaluate", f"run={stranger}", "episodes=4")
    argument = err.rpartition(" add ")[2].strip().strip("'")
    assert command("evaluate", f"run={stranger}", "episodes=4", argument)[0] == 0
    assert (stranger / "it ran").exists()


def test_terminal_is_not_controlled(stranger: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    """Escape sequences in a name are spelled out, on one line."""
    edit_json(stranger, "config.json", lambda config: config.update(robot="file:\x1b]0;owned\x07\n\r/x.xml"))
    _, out, err = command("evaluate", f"run={stranger}")
    assert "\x1b" not in out + err and "\x07" not in out + err and "\r" not in err
    assert "\\x1b" in err


def test_evaluation_is_unchanged_by_a_strangers_tracking(
    stranger: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    """Evaluation opens no tracker, no energy source and no exported program."""
    edit_json(stranger, "config.json", lambda config: config.update(tracking={"uri": "http://127.0.0.1:9"}))
    (stranger / "export").mkdir(exist_ok=True)
    (stranger / "export" / "policy.pt2").write_bytes(b"\x80\x04cposix\nsystem\n(S'touch /tmp/owned'\ntR.")
    assert command("evaluate", f"run={stranger}", "episodes=4")[0] == 0
    assert not os.path.exists("/tmp/owned")
