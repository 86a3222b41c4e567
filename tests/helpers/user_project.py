"""A user's project: its own `envs/`, `conf/` and `tests/`, and a plug-in file that registers its task."""

from __future__ import annotations

from pathlib import Path

FILES = {
    "envs/__init__.py": '"""Environments of this project."""\n',
    "envs/park.py": '''
from factory.envs.tasks.cartpole import CartpoleSwingup
from envs.park_config import ParkConfig

class Park(CartpoleSwingup):
    """The cart-pole under another name."""

    config = ParkConfig
''',
    "envs/park_config.py": '''
from dataclasses import dataclass
from typing import ClassVar

from factory.envs.tasks.cartpole_config import CartpoleSwingupConfig

@dataclass(kw_only=True)
class ParkConfig(CartpoleSwingupConfig):
    """The cart-pole under another name."""

    env: ClassVar[str] = "envs.park:Park"
    name: str = "park"
    id: str = "project/Park-v0"
''',
    "park.py": """
from envs.park_config import ParkConfig
from factory.registry import register_task

register_task(ParkConfig)
""",
    "conf/__init__.py": 'raise ImportError("this project keeps YAML here, not code")\n',
    "conf/task/park.yaml": """
# @package _global_
task:
  robot: ${robot}
  max_episode_steps: 20
num_envs: 8
total_steps: 512
learner:
  num_steps: 8
runtime:
  eval_episodes: 4
  video_s: 0.2
""",
    "conf/train.yaml": "not: the one that is meant\n",
    "tests/test_park.py": "def test_nothing(): pass\n",
}

COMMAND = ("plugins=[park.py]", "task=park", "tracking=jsonl")
"""Arguments that train the project's task."""


def make_project(folder: Path) -> Path:
    """Write the project's files into a folder."""
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content.lstrip("\n"))
    return folder


def check_run(folder: Path) -> Path:
    """Check that the project's task was trained with the project's settings; return the run's folder."""
    (run_dir,) = folder.glob("outputs/park/*/")
    config = (run_dir / "config.yaml").read_text()
    assert "max_episode_steps: 20" in config
    assert str(folder / "park.py") in config
    for name in ("report.html", "summary.json", "checkpoints/last/state.json"):
        assert (run_dir / name).exists(), name
    return run_dir
