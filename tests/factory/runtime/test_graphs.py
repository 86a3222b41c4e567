"""How a rollout and an update are launched: operation by operation, or recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from factory import options
from factory.benchmark.harness import Rig
from factory.cli import single_job
from factory.envs.core import graph_break
from factory.runtime import graphs

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


def iterations(rig: Rig, count: int) -> list[dict[str, torch.Tensor]]:
    """Train; return the policy's parameters after every iteration."""
    found = []
    for _ in range(count):
        rollout, _ = rig.collector.collect()
        rig.learner.update(rollout)
        found.append({name: value.clone() for name, value in rig.policy.state_dict().items()})
    return found


def places(rig: Rig) -> dict[str, int]:
    """Return where everything lies that one iteration hands to the next."""
    tensors = {**rig.policy.state_dict(), **{f"obs/{k}": v for k, v in rig.collector.obs.items()}}
    tensors |= {"state": rig.collector.state, "flat": rig.learner.flat, "lr": rig.learner.learning_rate}
    tensors |= {f"adam/{k}": v for k, v in rig.learner.adam.state().items()}
    tensors |= {name: getattr(rig.env.unwrapped, name) for name in rig.env.unwrapped.persistent}
    return {name: tensor.data_ptr() for name, tensor in tensors.items()}


def test_recorded_work_finds_everything_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """With any make_launcher the numbers are those without; no iteration and no restored state moves a
    tensor.
    """
    plain = iterations(Rig.open(single_job(JOB)), 4)
    recorded: list[Sequence[torch.Generator]] = []

    def launcher(work: Callable[[], Any], generators: Sequence[torch.Generator]) -> Callable[[], Any]:
        recorded.append(generators)
        return lambda: work()

    monkeypatch.setattr(graphs, "make_launcher", lambda *_, **__: (launcher, ""))
    rig = Rig.open(single_job(JOB))
    found = iterations(rig, 2)
    before, start = places(rig), rig._state()
    found += iterations(rig, 2)
    assert all(
        torch.equal(value, theirs[k])
        for ours, theirs in zip(found, plain, strict=True)
        for k, value in ours.items()
    )
    rig._restore(start)
    assert places(rig) == before
    assert len(recorded) == 3  # the rollout, its control steps alone, and the update, once each
    assert sum(map(len, recorded)) == 4  # noise and worlds, worlds, permutations


class Graph:
    """Stands in for a CUDA graph: writes down what is done with it."""

    def __init__(self) -> None:
        log.append("new")

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Return a method that notes its name."""
        return lambda *_, **__: log.append(name)


log: list[str] = []


def test_work_that_is_in_no_graph_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording is a chain of graphs with launches between them, and every graph knows the generators."""
    log.clear()
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
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


@needs_gpu
def test_captured_equals_eager() -> None:
    """On a GPU, recorded iterations give the numbers of those run operation by operation, and noise does not
    freeze.
    """
    job = (*JOB, "device=cuda", "physics=warp")
    eager = iterations(Rig.open(single_job([*job, "runtime.cuda_graphs=false"])), 8)
    rig = Rig.open(single_job(job))
    captured = iterations(rig, 8)
    for ours, theirs in zip(captured, eager, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert rig.collector._recorded.is_recorded  # type: ignore[attr-defined]
    actions = [rig.collector.collect()[0].actions.clone() for _ in range(2)]
    assert not torch.equal(actions[0], actions[1])
