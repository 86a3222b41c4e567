"""The examples of the documentation run as they stand."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from factory import config, registry
from factory.energy.registry import SOURCES
from factory.policies.export import export_policy

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.glob("*.md")))
EXAMPLES = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in PAGES
    for number, code in enumerate(
        re.findall(r"^```(?:python|py)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    )
]


@pytest.fixture
def clean_registries() -> Iterator[None]:
    """Forget the components that an example registers."""
    assert config.TrainConfig  # importing it registered the components of the package
    registries: tuple[dict[str, Any], ...] = (*registry.REGISTRIES.values(), registry.ROBOTS, SOURCES)
    before = [dict(known) for known in registries]
    yield
    for known, content in zip(registries, before, strict=True):
        known.clear()
        known.update(content)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an exported policy, as the examples about run folders expect it."""
    folder = tmp_path_factory.mktemp("run")
    export_policy(torch.nn.Linear(5, 1), torch.zeros(1, 5), folder / "export", metadata={})
    return folder


@pytest.mark.parametrize("code", EXAMPLES)
def test_example_runs(
    code: str, tmp_path: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch, clean_registries: None
) -> None:
    """Every Python example runs to its end, in a folder of its own and as a module of its own."""
    shutil.copytree(run_dir, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    module = ModuleType("example")
    monkeypatch.setitem(sys.modules, "example", module)
    exec(compile(code, "example", "exec"), module.__dict__)


def test_the_page_on_wrappers_has_its_four_examples() -> None:
    """The page's examples are found: torch, Gymnasium, stable-baselines3 and rsl_rl."""
    found = "\n".join(param.values[0] for param in EXAMPLES if str(param.id).startswith("wrappers.md"))
    for name in ("NormalizeObservation", "ToNumpy", "Sb3VecEnv", "RslRlVecEnv"):
        assert name in found


def test_tests_named_in_the_pages_exist() -> None:
    """What a page says is tested is tested by a test of that name."""
    named = {name for page in DOCS.glob("*.md") for name in re.findall(r"`(test_\w+)`", page.read_text())}
    written = "".join(path.read_text() for path in Path(__file__).parent.rglob("test_*.py"))
    assert len(named) > 30
    assert not [name for name in sorted(named) if f"def {name}(" not in written]
