"""MLflow for real: a database file, a server that comes and goes, processes that are killed."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from factory.policies.export import export_policy
from factory.tracking import (
    Tracker,
    TrackingConfig,
    close_parent_run,
    open_parent_run,
    open_tracker,
    prepare_store,
)
from factory.tracking.database import create_database
from factory.tracking.headline import LINES
from factory.tracking.store import connect

pytestmark = pytest.mark.slow

if TYPE_CHECKING:  # importing MLflow takes seconds, which collecting the tests shall not
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = "gym/half_cheetah"
OPEN_AND_DIE = """
import os, pathlib, signal, sys
from factory.tracking import TrackingConfig, open_tracker
root = pathlib.Path(sys.argv[1])
tracker = open_tracker(TrackingConfig(system_metrics=False), run_dir=root / sys.argv[2], output_root=root,
                       experiment="race", run_name=sys.argv[2], params={"seed": sys.argv[2]}, tags={})
for step in range(5):
    tracker.log({"train/return_mean": float(step)}, step)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try a server that is away again at once."""
    monkeypatch.setattr("factory.tracking.sender.LONGEST_BACKOFF_S", 0.1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an output root whose store is prepared."""
    folder = tmp_path_factory.mktemp("outputs")
    prepare_store(TrackingConfig(), output_root=folder, experiment=EXPERIMENT)
    return folder


@pytest.fixture
def client(root: Path) -> MlflowClient:
    """Return a client of the shared store."""
    return connect(f"sqlite:///{root}/mlflow.db")


@pytest.fixture
def open_run(root: Path, tmp_path: Path) -> Callable[..., Tracker]:
    """Return a function that opens a run of the shared store in the test's own run folder."""

    def open_it(**changes: Any) -> Tracker:
        arguments: dict[str, Any] = {
            "run_dir": tmp_path / "run",
            "output_root": root,
            "experiment": EXPERIMENT,
            "run_name": "one",
            "params": {"seed": 0},
            "tags": {"task": "gym/half_cheetah"},
            **changes,
        }
        cfg = arguments.pop("cfg", TrackingConfig(system_metrics=False))
        return open_tracker(cfg, **arguments)

    return open_it


@pytest.fixture
def serve(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Return a function that serves the shared store over HTTP with MLflow's own application."""
    monkeypatch.setenv("_MLFLOW_SERVER_FILE_STORE", f"sqlite:///{root}/mlflow.db")
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", "mlflow-artifacts:/")
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_DESTINATION", str(root / "served"))
    monkeypatch.setenv("_MLFLOW_SERVER_SERVE_ARTIFACTS", "true")
    from mlflow.server import app
    from werkzeug.serving import BaseWSGIServer, make_server

    servers: list[BaseWSGIServer] = []

    def start(port: int = 0) -> BaseWSGIServer:
        servers.append(make_server("127.0.0.1", port, app, threaded=True))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        stop(server)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stop(server: Any) -> None:
    """Take the server away: connections to its port are refused from here on."""
    server.shutdown()
    server.server_close()


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until the condition holds, and fail the test if it does not."""
    deadline_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline_s, "gave up waiting"
        time.sleep(0.02)


def steps(client: MlflowClient, run_id: str | None, key: str = "train/return_mean") -> list[int]:
    """Return the steps at which MLflow has the metric."""
    assert run_id is not None
    return sorted(metric.step for metric in client.get_metric_history(run_id, key))


def run_of(client: MlflowClient, tracker: Tracker) -> Run:
    """Return what MLflow has of the tracker's run."""
    assert tracker.run_id is not None
    return client.get_run(tracker.run_id)


def test_run_holds_params_tags_metrics_and_note(
    client: MlflowClient, open_run: Callable[..., Tracker]
) -> None:
    """Everything given to the tracker is in MLflow after close."""
    tags = {"git.commit": "abc123", "energy.tier": "estimated"}
    tracker = open_run(params={"learner": {"learning_rate": 0.001}, "long": "x" * 9000}, tags=tags)
    tracker.log({"eval/return_mean": 3.0, "energy/phase/sim_j": 2.0, "energy/total_j": 5.0}, 4096)
    tracker.set_tags({"late": "yes"})
    tracker.close()
    run = run_of(client, tracker)
    assert run.info.run_name == "one"
    assert run.data.params == {"learner.learning_rate": "0.001", "long": "x" * 6000}
    assert run.data.metrics == {"eval/return_mean": 3.0, "energy/phase/sim_j": 2.0, "energy/total_j": 5.0}
    assert steps(client, tracker.run_id, "eval/return_mean") == [4096]
    assert {key: run.data.tags[key] for key in ("git.commit", "late", "mlflow.source.git.commit")} == {
        "git.commit": "abc123",
        "late": "yes",
        "mlflow.source.git.commit": "abc123",
    }
    assert "| Total energy | 5 J | estimated" in run.data.tags["mlflow.note.content"]


@pytest.mark.parametrize(
    ("status", "expected"), [("finished", "FINISHED"), ("interrupted", "KILLED"), ("failed", "FAILED")]
)
def test_status_is_mapped(
    client: MlflowClient, open_run: Callable[..., Tracker], status: str, expected: str
) -> None:
    """A run is RUNNING until it is closed with one of our words."""
    tracker = open_run()
    assert run_of(client, tracker).info.status == "RUNNING"
    tracker.close(status)
    assert run_of(client, tracker).info.status == expected


def test_not_finite_figures_are_left_out(client: MlflowClient, open_run: Callable[..., Tracker]) -> None:
    """NaN and infinity reach no chart; the finite figures of the row do."""
    tracker = open_run()
    tracker.log({"a": 1.0, "b": float("nan"), "c": float("inf")}, 1)
    tracker.close()
    assert run_of(client, tracker).data.metrics == {"a": 1.0}


def test_resume_goes_on_with_the_run(client: MlflowClient, open_run: Callable[..., Tracker]) -> None:
    """The same run is RUNNING again, keeps its first parameters and takes new ones."""
    first = open_run(params={"seed": 0})
    first.log({"train/return_mean": 1.0}, 1)
    first.close("interrupted")
    second = open_run(params={"seed": 7, "new": 1}, resume_run_id=first.run_id)
    assert second.run_id == first.run_id
    assert run_of(client, second).info.status == "RUNNING"
    second.log({"train/return_mean": 2.0}, 2)
    second.close()
    assert run_of(client, second).data.params == {"seed": "0", "new": "1"}
    assert steps(client, second.run_id) == [1, 2]


def test_run_folder_knows_its_run(open_run: Callable[..., Tracker]) -> None:
    """A run that was opened when no checkpoint had the id is found by its folder."""
    first = open_run()
    first.close("failed")
    second = open_run(resume_run_id=None)
    second.close()
    assert second.run_id == first.run_id


def test_run_that_the_store_has_lost_is_replaced(
    open_run: Callable[..., Tracker], caplog: pytest.LogCaptureFixture
) -> None:
    """Resuming with an id of another store starts a new run and says so."""
    tracker = open_run(resume_run_id="0" * 32)
    tracker.close()
    assert tracker.run_id not in (None, "0" * 32)
    assert "a new run is started" in caplog.text


def test_rows_are_sent_together(open_run: Callable[..., Tracker], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that wait go in one batch of metrics, not one call a row or a metric."""
    from mlflow import MlflowClient

    batches: list[int] = []
    real = MlflowClient.log_batch

    def spy(self: MlflowClient, run_id: str, metrics: Any = (), **others: Any) -> Any:
        batches.append(len(metrics))
        return real(self, run_id, metrics=metrics, **others)

    monkeypatch.setattr(MlflowClient, "log_batch", spy)
    tracker = open_run()
    for step in range(12):
        tracker.log({f"m{i}": float(step) for i in range(50)}, step)
    tracker.close()
    rows = [size for size in batches if size]
    assert sum(rows) == 600
    assert len(rows) <= 3
    assert tracker.spent_s > 0.0


def test_too_many_rows_are_thinned_but_for_the_last(
    client: MlflowClient, open_run: Callable[..., Tracker]
) -> None:
    """A loop too fast for 1 % of the time loses rows in MLflow, never its final figures."""
    tracker = open_run()
    for step in range(150):
        tracker.log({"train/return_mean": float(step)}, step)
    tracker.close()
    kept = steps(client, tracker.run_id)
    assert kept[-1] == 149
    assert 90 < len(kept) < 150


def test_artifacts_lie_beside_the_database(
    client: MlflowClient, root: Path, tmp_path: Path, open_run: Callable[..., Tracker]
) -> None:
    """Files and folders are stored under the output root, whatever the current folder is."""
    run_dir = tmp_path / "run"
    (run_dir / "videos").mkdir(parents=True)
    (run_dir / "videos" / "a.mp4").write_bytes(b"video")
    (run_dir / "report.html").write_text("report")
    tracker = open_run()
    tracker.log_artifacts(run_dir / "report.html")
    tracker.log_artifacts(run_dir / "videos", "videos")
    tracker.log_artifacts(run_dir / "absent")
    tracker.close()
    folder = root / "mlartifacts" / "gym.half_cheetah" / str(tracker.run_id) / "artifacts"
    assert run_of(client, tracker).info.artifact_uri == folder.as_uri()
    assert (folder / "report.html").read_text() == "report"
    assert (folder / "videos" / "a.mp4").read_bytes() == b"video"


@pytest.mark.parametrize("over", ["file", "http"])
def test_policy_loads_from_the_registry_and_acts_the_same(
    client: MlflowClient,
    root: Path,
    tmp_path: Path,
    open_run: Callable[..., Tracker],
    serve: Callable[..., Any],
    over: str,
) -> None:
    """`models:/<task>@latest` is the newest policy, with its figures, and another alias is set as asked."""
    import mlflow

    module = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    folder = export_policy(module, torch.zeros(2, 5), tmp_path / "run" / "export", metadata={})
    uri = f"sqlite:///{root}/mlflow.db" if over == "file" else f"http://127.0.0.1:{serve().port}"
    tracker = open_run(cfg=TrackingConfig(uri=uri, system_metrics=False), experiment=over)
    tracker.log_policy(folder, registered_name=f"robot/{over}", alias="best")
    tracker.log({"train/return_mean": 7.0}, 1)
    tracker.log_policy(folder, registered_name=f"robot/{over}", metrics={"eval/return_mean": 7.0})
    tracker.close()
    mlflow.set_tracking_uri(uri)
    observations = torch.randn(3, 5)
    actions = mlflow.pyfunc.load_model(f"models:/robot.{over}@latest").predict(observations.numpy())
    assert torch.allclose(torch.from_numpy(actions), module(observations), atol=1e-6)
    latest = client.get_model_version_by_alias(f"robot.{over}", "latest")
    assert (str(latest.version), latest.run_id) == ("2", tracker.run_id)
    assert str(client.get_model_version_by_alias(f"robot.{over}", "best").version) == "1"
    logged = client.search_logged_models([run_of(client, tracker).info.experiment_id])
    figures = [[(metric.key, metric.value) for metric in model.metrics or []] for model in logged]
    assert sorted(figures) == [[], [("eval/return_mean", 7.0)]]
    assert {model.status for model in logged} == {"READY"}


def test_sweep_runs_have_a_parent(client: MlflowClient, root: Path, open_run: Callable[..., Tracker]) -> None:
    """The runs of a sweep appear under one run, which ends with the sweep."""
    cfg = TrackingConfig(system_metrics=False)
    parent = open_parent_run(cfg, output_root=root, experiment=EXPERIMENT, run_name="sweep")
    assert parent is not None
    child = open_run(parent_run_id=parent)
    child.close()
    close_parent_run(cfg, parent, output_root=root, status="finished")
    assert run_of(client, child).data.tags["mlflow.parentRunId"] == parent
    assert client.get_run(parent).info.status == "FINISHED"


def test_system_metrics_are_sampled_and_end_with_the_run(
    client: MlflowClient, open_run: Callable[..., Tracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's own samples are there under `system/`, and its thread is gone after close."""
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    tracker = open_run(cfg=TrackingConfig())
    key = "system/cpu_utilization_percentage"
    wait_for(lambda: key in run_of(client, tracker).data.metrics)
    tracker.close()
    assert "SystemMetricsMonitor" not in {thread.name for thread in threading.enumerate()}


def test_deleted_experiment_is_an_error_of_the_user(
    client: MlflowClient, open_run: Callable[..., Tracker]
) -> None:
    """A store that answers but refuses the run stops the start, with the remedy."""
    client.delete_experiment(client.create_experiment("deleted"))
    with pytest.raises(ValueError, match="mlflow experiments restore"):
        open_run(experiment="deleted")


def test_server_away_at_the_start(
    client: MlflowClient,
    tmp_path: Path,
    open_run: Callable[..., Tracker],
    serve: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The run starts without an id, keeps everything on disk, and tells the server when it is there."""
    port = free_port()
    tracker = open_run(cfg=TrackingConfig(uri=f"http://127.0.0.1:{port}", system_metrics=False))
    for step in range(3):
        tracker.log({"train/return_mean": float(step)}, step)
    assert tracker.run_id is None
    assert len((tmp_path / "run" / "tracking_pending.jsonl").read_text().splitlines()) == 4
    serve(port)
    wait_for(lambda: tracker.run_id)
    tracker.close()
    assert steps(client, tracker.run_id) == [0, 1, 2]
    assert run_of(client, tracker).data.params == {"seed": "0"}
    assert not (tmp_path / "run" / "tracking_pending.jsonl").exists()
    told = [record.getMessage() for record in caplog.records if record.name == "factory.tracking"]
    assert [("is away" in text, "is back" in text) for text in told] == [(True, False), (False, True)]


def test_server_away_in_mid_run_and_at_the_end(
    client: MlflowClient, tmp_path: Path, open_run: Callable[..., Tracker], serve: Callable[..., Any]
) -> None:
    """What a server missed while it was away, the end included, it gets from the resumed run."""
    server = serve()
    cfg = TrackingConfig(uri=f"http://127.0.0.1:{server.port}", system_metrics=False)
    first = open_run(cfg=cfg)
    first.log({"train/return_mean": 0.0}, 0)
    wait_for(lambda: steps(client, first.run_id) == [0])
    stop(server)
    (tmp_path / "run" / "report.html").write_text("report")
    first.log({"train/return_mean": 1.0}, 1)
    first.log_artifacts(tmp_path / "run" / "report.html")
    first.close("interrupted")
    assert run_of(client, first).info.status == "RUNNING"
    serve(server.port)
    second = open_run(cfg=cfg, resume_run_id=first.run_id)
    second.log({"train/return_mean": 2.0}, 2)
    second.close()
    assert second.run_id == first.run_id
    assert steps(client, first.run_id) == [0, 1, 2]
    assert run_of(client, first).info.status == "FINISHED"
    assert [file.path for file in connect(cfg.uri).list_artifacts(str(first.run_id))] == ["report.html"]


def test_answer_lost_on_the_way_makes_no_second_run(
    client: MlflowClient, open_run: Callable[..., Tracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the server creates the run but its answer does not arrive, the next attempt finds that run."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    real = MlflowClient.create_run
    created: list[str] = []

    def lose_the_answer(self: MlflowClient, *args: Any, **kwargs: Any) -> Run:
        created.append(real(self, *args, **kwargs).info.run_id)
        raise MlflowException("read timed out")

    monkeypatch.setattr(MlflowClient, "create_run", lose_the_answer)
    tracker = open_run()
    wait_for(lambda: tracker.run_id)
    tracker.close()
    assert created == [tracker.run_id]


def test_locked_database_does_not_stop_the_loop(
    client: MlflowClient, root: Path, open_run: Callable[..., Tracker]
) -> None:
    """Rows are taken while another process writes, and are sent when it has finished."""
    tracker = open_run()
    writer = sqlite3.connect(root / "mlflow.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    for step in range(3):
        tracker.log({"train/return_mean": float(step)}, step)
    assert steps(client, tracker.run_id) == []
    writer.execute("COMMIT")
    writer.close()
    tracker.close()
    assert steps(client, tracker.run_id) == [0, 1, 2]


def test_two_processes_on_an_empty_store_then_killed(tmp_path: Path) -> None:
    """Both open a run though neither store nor schema exists; after kill -9 a resume sends every row."""
    names = ("left", "right")
    command = [sys.executable, "-c", OPEN_AND_DIE, str(tmp_path)]
    children = [subprocess.Popen([*command, name], cwd=Path(__file__).parents[3]) for name in names]
    assert [child.wait(180) for child in children] == [-signal.SIGKILL, -signal.SIGKILL]
    client = connect(f"sqlite:///{tmp_path}/mlflow.db")
    for name in names:
        tracker = open_tracker(
            TrackingConfig(system_metrics=False),
            run_dir=tmp_path / name,
            output_root=tmp_path,
            experiment="race",
            run_name=name,
            params={},
            tags={},
        )
        tracker.close()
        assert tracker.run_id == json.loads((tmp_path / name / "tracking.json").read_text())["run_id"]
        assert run_of(client, tracker).data.params == {"seed": name}
        assert steps(client, tracker.run_id) == [0, 1, 2, 3, 4]
    experiment = client.get_experiment_by_name("race")
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 2


def test_a_store_that_was_cut_off_while_it_was_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database with half of MLflow's tables could neither be used nor migrated."""
    database = tmp_path / "mlflow.db"

    def cut_off(engine: Any) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE trace_info (request_id VARCHAR(50))")
        raise KeyboardInterrupt

    # Other tests copy an empty database.
    monkeypatch.setattr("factory.tracking.store.create_database", create_database)
    with monkeypatch.context() as patched:
        patched.setattr("mlflow.store.db.utils._initialize_tables", cut_off)
        with pytest.raises(KeyboardInterrupt):
            connect(f"sqlite:///{database}")
    assert not database.exists()
    # What a process that was killed there leaves behind goes as well.
    (tmp_path / ".mlflow.db.new-killed").mkdir()
    client = connect(f"sqlite:///{database}")
    assert [one.name for one in client.search_experiments()] == ["Default"]
    client.create_experiment("after")
    assert len(connect(f"sqlite:///{database}").search_experiments()) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


def test_metric_keys_of_the_design_are_accepted(
    client: MlflowClient, open_run: Callable[..., Tracker]
) -> None:
    """Every key the factory writes passes MLflow's rules."""
    keys = [*LINES, "energy/phase/idle_j", "health/bad_samples"]
    tracker = open_run()
    tracker.log(dict.fromkeys(keys, 1.0), 1)
    tracker.close()
    assert set(run_of(client, tracker).data.metrics) == set(keys)


def test_page_of_a_run_is_that_of_the_training_view(tmp_path: Path) -> None:
    """The address names experiment and run; the newest run is found, and a silent server gives none."""
    from factory.tracking.newest import newest_page
    from factory.tracking.store import connect, run_page

    assert newest_page(tmp_path) is None
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = connect(uri)
    experiment = client.create_experiment("race")
    assert newest_page(tmp_path) is None
    run = client.create_run(experiment).info.run_id
    page = f"http://127.0.0.1:5000/#/experiments/{experiment}/runs/{run}?workflowType=machine_learning"
    assert run_page(uri, run) == newest_page(tmp_path) == page
    assert run_page("http://127.0.0.1:9", run) is None


def test_what_is_delivered_again_is_there_once(
    client: MlflowClient, tmp_path: Path, open_run: Callable[..., Tracker]
) -> None:
    """Iterations made again after a kill, the last row and the registration of a policy add nothing."""
    module = torch.nn.Linear(5, 2)
    folder = export_policy(module, torch.zeros(2, 5), tmp_path / "run" / "export", metadata={})
    run_id = None
    for checkpoint in (0, 1, 3):
        tracker = open_run(resume_run_id=run_id)
        for step in range(checkpoint + 1, 4):
            tracker.log({"factory/env_steps": float(step), "time/wall_s": time.monotonic()}, step)
        tracker.log({"factory/env_steps": 3.0, "eval/return_mean": 5.0}, 3)
        tracker.log_policy(folder, registered_name="once")
        tracker.close()
        run_id = tracker.run_id
    assert steps(client, run_id, "time/wall_s") == [1, 2, 3]
    assert steps(client, run_id, "eval/return_mean") == [3]
    assert [version.run_id for version in client.search_model_versions("name = 'once'")] == [run_id]
    experiment_id = run_of(client, tracker).info.experiment_id
    models = client.search_logged_models([experiment_id], filter_string=f"source_run_id = '{run_id}'")
    assert [model.status for model in models] == ["READY"]


@pytest.mark.parametrize("call", ["log_model_artifacts", "finalize_logged_model", "create_model_version"])
def test_registration_cut_off_anywhere_is_completed(
    client: MlflowClient,
    tmp_path: Path,
    open_run: Callable[..., Tracker],
    monkeypatch: pytest.MonkeyPatch,
    call: str,
) -> None:
    """A connection lost after any step of the registration leads to one model and one version."""
    from mlflow import MlflowClient

    real = getattr(MlflowClient, call)
    lost: list[bool] = []

    def lose_the_first_answer(self: MlflowClient, *args: Any, **kwargs: Any) -> Any:
        result = real(self, *args, **kwargs)
        if not lost:
            lost.append(True)
            raise ConnectionError("connection reset")
        return result

    folder = export_policy(torch.nn.Linear(5, 2), torch.zeros(2, 5), tmp_path / "run" / "export", metadata={})
    monkeypatch.setattr(MlflowClient, call, lose_the_first_answer)
    tracker = open_run()
    tracker.log_policy(folder, registered_name=call)
    wait_for(lambda: lost)
    tracker.close()
    monkeypatch.undo()
    if (tmp_path / "run" / "tracking_pending.jsonl").exists():
        open_run(resume_run_id=tracker.run_id).close()
    assert len(client.search_model_versions(f"name = '{call}'")) == 1
    experiment_id = run_of(client, tracker).info.experiment_id
    models = client.search_logged_models([experiment_id], filter_string=f"source_run_id = '{tracker.run_id}'")
    assert [model.status for model in models] == ["READY"]


def test_files_outside_the_run_folder_are_not_sent(
    client: MlflowClient, tmp_path: Path, open_run: Callable[..., Tracker]
) -> None:
    """Neither a line of the outbox nor a link in a folder leads out of the run folder."""
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    run_dir = tmp_path / "run"
    (run_dir / "videos").mkdir(parents=True)
    (run_dir / "videos" / "link.txt").symlink_to(secret)
    (run_dir / "own.txt").write_text("own")
    lines = [{"path": str(secret)}, {"path": "../secret.txt"}, {"path": "videos"}, {"path": "own.txt"}]
    updates = [{"kind": "artifacts", "time_ms": 1, "artifact_path": None, **line} for line in lines]
    first = open_run()
    first.close()
    (run_dir / "tracking_pending.jsonl").write_text("".join(json.dumps(line) + "\n" for line in updates))
    second = open_run(resume_run_id=first.run_id)
    second.close()
    assert second.run_id is not None
    assert [file.path for file in client.list_artifacts(second.run_id)] == ["own.txt"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"uri": 3, "run_id": {}}'])
def test_damaged_ids_are_made_anew(tmp_path: Path, open_run: Callable[..., Tracker], content: str) -> None:
    """A `tracking.json` that was cut off or written by someone else stops no run."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tracking.json").write_text(content)
    tracker = open_run()
    tracker.close()
    assert tracker.run_id is not None
