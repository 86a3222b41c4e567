"""What all tests share: quiet libraries, few threads, and runs in folders of their own."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import settings

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault(
    "GOMP_SPINCOUNT", "0"
)  # test processes share the cores: spinning threads would starve them
import factory  # noqa: F401  sets the OpenMP wait policy before torch is loaded
from factory.energy.types import component_metrics
from factory.metric_keys import is_listed

# A shell lets its background jobs ignore Ctrl-C, and the processes that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]

settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with slow tests first, so that no worker is left alone with one of them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Leave libraries and collected tests out of every later search for garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def patient_tracker() -> Iterator[None]:
    """Wait for MLflow's store however long it takes: on a busy machine, its libraries load for long."""
    from factory.tracking import mlflow

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlflow, "OPEN_WAIT_S", 120.0)
        yield


@pytest.fixture(autouse=True, scope="session")
def shared_schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make MLflow's schema once, with the first database; the others begin as copies of an empty one."""
    from factory.tracking import store

    template = tmp_path_factory.mktemp("schema") / "mlflow.db"
    create = store.create_database

    def copy(database: Path) -> None:
        if not template.exists():
            create(template)
        unfinished = shutil.copy(template, database.with_name(f".{database.name}.copy"))
        Path(unfinished).replace(database)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "create_database", copy)
        yield


@pytest.fixture(autouse=True)
def no_addresses_of_mlflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take back the addresses that a test, or MLflow's server, sets for its process and its children."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "FACTORY_TRACKING_URI"):
        monkeypatch.setenv(name, "")  # so that it is taken back even if only the test sets it
        monkeypatch.delenv(name)
    yield
    if "mlflow.tracking" in sys.modules:
        from mlflow.tracking._model_registry import utils as registry
        from mlflow.tracking._tracking_service import utils as tracking

        registry._registry_uri = None
        tracking._tracking_uri = None


def run_training(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Run `python -m factory.train` in this process, in the folder it is in; the books of every run must
    balance.
    """
    from hydra.core.global_hydra import GlobalHydra

    from factory import train

    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", ["factory-train", *arguments])
    begin_ns = time.time_ns()
    train.main()
    for summary in Path.cwd().rglob("summary.json"):
        if (summary.parent / "config.yaml").exists() and summary.stat().st_mtime_ns > begin_ns:
            check_books(summary.parent)
            check_keys(summary.parent)


def check_books(run_dir: Path) -> None:
    """Check what holds for every run, whatever it did: conservation, and the identities of the key
    figures.
    """
    figures = json.loads((run_dir / "summary.json").read_text())["metrics"]
    if "energy/total_j" not in figures:
        return
    exactly = lambda value: pytest.approx(value, rel=1e-9, abs=1e-12)  # noqa: E731
    total_j, figure = figures["energy/total_j"], figures["factory/joules_per_token"]
    phases_j = [value for key, value in figures.items() if key.startswith("energy/phase/")]
    assert sum(phases_j) + figures["energy/unattributed_j"] == exactly(total_j)
    assert sum(component_metrics(figures).values()) == exactly(total_j)
    assert min(phases_j) >= 0.0
    assert figures["energy/total_j_lo"] <= total_j <= figures["energy/total_j_hi"]
    assert figure * figures["factory/tokens_total"] == exactly(total_j)
    assert figure * figures["factory/tokens_per_joule"] == exactly(1.0)
    site = yaml.safe_load((run_dir / "config.yaml").read_text())["energy"]["site"]
    kwh_per_mtoken = figure / 3.6 * site["pue"]
    assert figures["factory/usd_per_mtoken"] == exactly(kwh_per_mtoken * site["price_usd_per_kwh"])
    assert figures["factory/gco2e_per_mtoken"] == exactly(kwh_per_mtoken * site["carbon_g_per_kwh"])
    kwh = total_j / 3.6e6 * site["pue"]
    assert figures["factory/usd"] == exactly(kwh * site["price_usd_per_kwh"])
    assert figures["factory/gco2e"] == exactly(kwh * site["carbon_g_per_kwh"])
    assert figures["time/meter_s"] < figures["time/wall_s"]


def check_keys(run_dir: Path) -> None:
    """Check that the table of metrics has all keys but those of tasks, learners and other people's meters."""
    figures = json.loads((run_dir / "summary.json").read_text())["metrics"]
    others = {f"energy/{name}_j" for name in component_metrics(figures)}
    unknown = [key for key in figures if not is_listed(key) and key not in others]
    assert all(key.startswith(("eval/", "train/", "loss/")) for key in unknown), unknown


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Return a function that runs `python -m factory.train` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run_training(monkeypatch, *arguments)


@pytest.fixture(scope="module")
def shared_command_line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., None]]:
    """Return the same for a module's tests, which share one folder and its ledger."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("shared"))
        yield lambda *arguments: run_training(patch, *arguments)


@pytest.fixture
def menagerie() -> Path:
    """Return the local copy of the real robots that `MENAGERIE_ROOT` names; skip where there is none."""
    folder = Path(os.environ.get("MENAGERIE_ROOT", ""))
    if not (folder / "unitree_go1").is_dir():
        pytest.skip("no local copy of MuJoCo Menagerie: set MENAGERIE_ROOT")
    return folder
