"""The examples of the documentation run as they stand."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml

from factory import config, registry
from factory.energy.registry import SOURCES
from factory.policies.export import export_policy
from factory.tracking.model import register_policy
from factory.tracking.store import artifact_location, connect, ensure_experiment

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
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
    """Return a folder with an exported and registered policy, as the examples about runs expect it."""
    folder = tmp_path_factory.mktemp("run")
    export_policy(torch.nn.Linear(5, 1), torch.zeros(1, 5), folder / "export", metadata={})
    uri = f"sqlite:///{folder / 'outputs/mlflow.db'}"
    client = connect(uri)
    artifacts = artifact_location(uri, output_root=folder, experiment="cartpole_swingup")
    run = client.create_run(ensure_experiment(client, "cartpole_swingup", location=artifacts))
    client.log_param(run.info.run_id, "seed", 0)
    client.log_metric(run.info.run_id, "eval/return_mean", 1.0)
    client.set_tag(run.info.run_id, "energy.tier", "estimated")
    row = {"step": 16, "time_unix_s": 0.0, "metrics": {"train/return_mean": 1.0}}
    (folder / "metrics.jsonl").write_text(f"{json.dumps(row)}\n")
    register_policy(
        client,
        run_id=run.info.run_id,
        exported=folder / "export",
        name="cartpole_swingup",
        alias="latest",
        metrics={},
        step=0,
    )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("code", EXAMPLES)
def test_example_runs(
    code: str, tmp_path: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch, clean_registries: None
) -> None:
    """Every Python example runs to its end, in a folder of its own and as a module of its own."""
    shutil.copytree(run_dir, tmp_path, dirs_exist_ok=True)
    if "mlflow.set_tracking_uri" in code:
        # A process of its own: MLflow keeps its address, and what it caches by it, for the whole process,
        # and another test's store would be found in the place of the example's.
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return
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


def test_links_lead_to_files() -> None:
    """Every relative link of a page, the README and the guide for contributors leads to a file."""
    broken = []
    for page in (*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"):
        prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        targets = [target for target in re.findall(r"\]\(([^)#\s]+)", prose) if "://" not in target]
        missing = [target for target in targets if not (page.parent / target).exists()]
        broken.extend(f"{page.relative_to(ROOT)}: {target}" for target in missing)
    assert not broken


def test_every_page_is_in_the_menu_of_the_site() -> None:
    """Each page is in the menu once, and the menu names no other."""
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    listed = re.findall(r"[\w/-]+\.md", str(menu))
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_make_targets_that_are_named_exist() -> None:
    """The pages, the workflow and the script of continuous integration name targets of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    workflow = ROOT / ".github" / "workflows" / "checks.yml"
    commands = [
        step["run"]
        for job in yaml.safe_load(workflow.read_text())["jobs"].values()
        for step in job["steps"]
        if "run" in step
    ]
    texts = [*commands, (ROOT / ".ci" / "run").read_text()]
    texts += re.findall(r"`(make [^`]+)`", "".join(page.read_text() for page in PAGES))
    named = {name for text in texts for name in re.findall(r"^\s*make ([a-z-]+)", text, re.MULTILINE)}
    assert {"check", "test", "test-fast", "docs", "train"} <= named
    assert named <= targets


@pytest.mark.slow
def test_shell_completes_keys_and_tasks() -> None:
    """The line that the first hour gives makes bash complete tasks and keys of `factory-train`."""
    commands = Path(sys.executable).parent
    script = """
        eval "$(factory-train -sc install=bash)"
        for COMP_LINE in "factory-train task=cartp" "factory-train learner.gam"; do
            COMP_POINT=${#COMP_LINE}; COMP_CWORD=1; hydra_bash_completion; echo "${COMPREPLY[@]}"
        done
    """
    assert 'eval "$(factory-train -sc install=bash)"' in (DOCS / "first-hour.md").read_text()
    environment = os.environ | {"PATH": f"{commands}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["task=cartpole_swingup", "learner.gamma="]


def test_readme_fits_a_screen_or_two() -> None:
    """The README has at most 80 lines of at most 110 columns."""
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 80
    assert max(map(len, lines)) <= 110
