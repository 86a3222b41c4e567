"""How a rollout and an update are launched: operation by operation, or recorded."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from factory import options
from factory.benchmark.harness import Harness
from factory.cli import single_job
from factory.envs.core import graph_break
from factory.runtime import distributed, graphs

options.register()
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
JOB = (
    "task=cartpole_swingup",
    "num_envs=32",
    "learner.num_steps=8",
    "learner.num_epochs=2",
    "learner.num_minibatches=2",
    "policy.actor_hidden=[16]",
    "policy.critic_hidden=[16]",
    "seed=4",
)


def test_cpu_and_worlds_outside_the_gpu_run_as_they_are() -> None:
    """There is nothing to explain on a CPU; on a GPU a line says why there are no graphs."""
    assert graphs.make_launcher(torch.device("cpu"), capturable=True, wanted=True) == (graphs.eager, "")
    assert graphs.make_launcher(torch.device("cuda"), capturable=True, wanted=False) == (graphs.eager, "")
    launcher, reason = graphs.make_launcher(torch.device("cuda"), capturable=False, wanted=True)
    assert launcher is graphs.eager
    assert "outside the GPU" in reason


def iterations(harness: Harness, count: int) -> list[dict[str, torch.Tensor]]:
    """Train; return the policy's parameters after every iteration."""
    found = []
    for _ in range(count):
        rollout, _ = harness.collector.collect()
        harness.learner.update(rollout)
        found.append({name: value.clone() for name, value in harness.policy.state_dict().items()})
    return found


def places(harness: Harness) -> dict[str, int]:
    """Return where everything lies that one iteration hands to the next."""
    tensors = {**harness.policy.state_dict(), **{f"obs/{k}": v for k, v in harness.collector.obs.items()}}
    tensors |= {
        "state": harness.collector.state,
        "flat": harness.learner.flat,
        "lr": harness.learner.learning_rate,
    }
    tensors |= {f"adam/{k}": v for k, v in harness.learner.adam.state().items()}
    tensors |= {name: getattr(harness.env.unwrapped, name) for name in harness.env.unwrapped.persistent}
    return {name: tensor.data_ptr() for name, tensor in tensors.items()}


def test_recorded_work_finds_everything_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """With any make_launcher the numbers are those without; no iteration and no restored state moves a
    tensor.
    """
    plain = iterations(Harness.open(single_job(JOB)), 4)
    recorded: list[Sequence[torch.Generator]] = []

    def launcher(work: Callable[[], Any], generators: Sequence[torch.Generator]) -> Callable[[], Any]:
        recorded.append(generators)
        return lambda: work()

    monkeypatch.setattr(graphs, "make_launcher", lambda *_, **__: (launcher, ""))
    harness = Harness.open(single_job(JOB))
    found = iterations(harness, 2)
    before, start = places(harness), harness._state()
    found += iterations(harness, 2)
    assert all(
        torch.equal(value, theirs[k])
        for ours, theirs in zip(found, plain, strict=True)
        for k, value in ours.items()
    )
    harness._restore(start)
    assert places(harness) == before
    assert len(recorded) == 3  # the rollout, its control steps alone, and the update, once each
    assert sum(map(len, recorded)) == 4  # noise and worlds, worlds, permutations


class Graph:
    """Stands in for a CUDA graph: writes down what is done with it."""

    def __init__(self) -> None:
        log.append("new")

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Return a method that notes its name."""
        return lambda *_, **__: log.append(name)


class Stream:
    """Stands in for a CUDA stream."""

    def wait_stream(self, _: object) -> None:
        """Wait for nothing."""


log: list[str] = []


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> torch.Generator:
    """Put a log in the place of CUDA's graphs; return the default generator of the device."""
    log.clear()
    default = torch.Generator()
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "default_generators", (default,))
    monkeypatch.setattr(graphs, "_captures", graphs._Captures())
    # Only generators of a GPU can do this.
    monkeypatch.setattr(graphs, "_release", lambda generator: log.append(f"release {id(generator)}"))
    return default


def test_work_that_is_in_no_graph_keeps_its_place(fake_cuda: torch.Generator) -> None:
    """A recording is a chain of graphs with launches between them, and every graph knows the generators."""
    recording = graphs._Recording([torch.Generator(), torch.Generator()])
    with graph_break.handle_graph_breaks(recording.cut):
        recording.begin()
        graph_break.graph_break(lambda: lambda: log.append("apart"))
        recording.end()
    assert log == ["new", *["register_generator_state"] * 2, "capture_begin", "capture_end"] * 2
    log.clear()
    for launch in recording.launches:
        launch()
    assert log == ["replay", "apart", "replay"]


def fails_in_its_capture() -> Callable[[], str]:
    """Return work whose fourth call, the recorded one, fails as a read of the device does."""
    calls = iter(range(100))

    def work() -> str:
        if next(calls) == graphs.EAGER_CALLS:
            raise RuntimeError("operation not permitted\nwhen stream is capturing")
        return "result"

    return work


def test_a_failed_capture_leaves_the_process_sound(
    fake_cuda: torch.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    """Work goes on operation by operation, for good and for every recording; one line says why."""
    recorded = graphs.CudaGraphed(lambda: "earlier", [])
    for _ in range(graphs.EAGER_CALLS + 1):
        recorded()
    assert recorded.is_recorded
    generator = torch.Generator()
    failing = graphs.CudaGraphed(fails_in_its_capture(), [generator])
    # The result of the call that could not be recorded is computed all the same.
    assert [failing() for _ in range(6)] == ["result"] * 6
    assert not failing.is_recorded
    assert not recorded.is_recorded
    assert recorded() == "earlier"
    assert log.count("capture_begin") == log.count("capture_end") == 2
    later = graphs.CudaGraphed(lambda: "later", [])
    assert [later() for _ in range(6)] == ["later"] * 6
    assert not later.is_recorded
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line.endswith("operation not permitted when stream is capturing")
    released = [entry for entry in log if entry.startswith("release")]
    assert released == [f"release {id(generator)}", f"release {id(fake_cuda)}"]


def test_graphs_that_are_required_stop_the_run(fake_cuda: torch.Generator) -> None:
    """With runtime.require_cuda_graphs a failed capture raises, and a job without graphs is refused."""
    failing = graphs.CudaGraphed(fails_in_its_capture(), [], required=True)
    for _ in range(graphs.EAGER_CALLS):
        failing()
    with pytest.raises(graphs.CaptureError, match="require_cuda_graphs=true: operation not permitted"):
        failing()
    with pytest.raises(ValueError, match=r"require_cuda_graphs=true: no CUDA graphs, for device=cpu"):
        graphs.make_launcher(torch.device("cpu"), capturable=True, wanted=True, required=True)


def test_lost_ranks_are_not_taken_for_failed_captures(fake_cuda: torch.Generator) -> None:
    """A process that ends during the recording ends the run, which must not go on to the next exchange."""
    calls = iter(range(100))

    def work() -> None:
        if next(calls) == graphs.EAGER_CALLS:
            raise distributed.PeerLostError("another process of this run ended")

    graphed = graphs.CudaGraphed(work, [])
    with pytest.raises(distributed.PeerLostError):
        for _ in range(graphs.EAGER_CALLS + 1):
            graphed()


def test_no_rank_replays_alone(
    fake_cuda: torch.Generator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where another process could not record, this one drops its own recording."""
    monkeypatch.setattr(distributed, "any_rank", lambda failed: True)
    graphed = graphs.CudaGraphed(lambda: "result", [])
    assert [graphed() for _ in range(6)] == ["result"] * 6
    assert not graphed.is_recorded
    assert "another process" in caplog.text


def test_a_failure_names_the_line_of_this_project() -> None:
    """The place is the last line of the project, not that of torch below it."""
    harness = Harness.open(single_job(JOB))
    try:
        harness.env.step(torch.zeros(3))
    except Exception as error:
        text = graphs.describe(error)
    assert re.search(r"factory/envs/\S+\.py:\d+, in \w+\)$", text)


@needs_gpu
@pytest.mark.parametrize(
    "task",
    [
        # No contacts, no derived fields.
        ("task=cartpole_swingup",),
        # Contacts, a cut for kinematics, model fields of their own for each environment.
        ("task=quadruped_velocity",),
        # Forces after a step, and a cut for the whole of `forward`.
        ("experiment=ant",),
    ],
    ids=lambda task: task[0].split("=")[1],
)
def test_captured_equals_eager(task: tuple[str, ...]) -> None:
    """On a GPU, recorded iterations give the numbers of those run operation by operation, and noise does not
    freeze.
    """
    job = (*JOB[1:], *task, "device=cuda", "physics=warp")
    eager = iterations(Harness.open(single_job([*job, "runtime.cuda_graphs=false"])), 8)
    harness = Harness.open(single_job([*job, "runtime.require_cuda_graphs=true"]))
    captured = iterations(harness, 8)
    # Contacts add up in an order that no two runs share, and every further step multiplies the difference.
    compared, rtol, atol = (8, 1e-4, 1e-5) if task == ("task=cartpole_swingup",) else (5, 1e-2, 1e-3)
    for ours, theirs in zip(captured[:compared], eager[:compared], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)
    assert harness.collector._recorded.is_recorded  # type: ignore[attr-defined]
    assert harness.learner._launch.is_recorded  # type: ignore[union-attr]
    actions = [harness.collector.collect()[0].actions.clone() for _ in range(2)]
    assert not torch.equal(actions[0], actions[1])
