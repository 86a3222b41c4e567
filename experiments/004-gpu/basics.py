"""The first jobs on a new GPU: each asks one question on which all later jobs depend."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
Found = Iterator[tuple[str, dict[str, Any]]]
_NEEDS_GPU = {"left_out": "left out: needs a GPU"}


def machine(scale: Any, cells: Sequence[str]) -> Found:
    """Describe what Warp and `factory.doctor` find on this machine."""
    import torch
    import warp as wp

    for cell in cells:
        found: dict[str, Any] = {"cuda": torch.cuda.is_available(), "torch_cuda": torch.version.cuda}
        wp.init()
        found["warp_cache"] = wp.config.kernel_cache_dir
        if torch.cuda.is_available():
            found["capability"] = torch.cuda.get_device_capability()
            found["memory_pools"] = wp.is_mempool_enabled(wp.get_cuda_device())
            found["conditional_graphs"] = wp.is_conditional_graph_supported()
        command = [sys.executable, "-m", "factory.doctor", f"device={scale.device}"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT)
        found["doctor"] = done.stdout.splitlines()
        yield cell, found


def torch_graphs(scale: Any, cells: Sequence[str]) -> Found:
    """Compare recorded work with the same run eagerly, without Warp: generators, Adam, graph breaks."""
    import torch

    from factory.runtime import graphs

    for cell in cells:
        if scale.device != "cuda":
            yield cell, _NEEDS_GPU
            continue
        one_by_one = _numbers(graphs.eager)
        recorded = _numbers(graphs.CudaGraphed)
        equal = [torch.equal(*pair) for pair in zip(one_by_one, recorded, strict=True)]
        yield cell, {"calls": len(equal), "equal": sum(equal)}


def _numbers(launcher: Any) -> list[Any]:
    """Return the weights after each of eight small updates that use what a training job records."""
    import torch

    from factory.envs.core import graph_break

    device = torch.device("cuda")
    noise = torch.Generator(device).manual_seed(1)
    order = torch.Generator(device).manual_seed(2)
    weights = torch.linspace(-1, 1, 64 * 64, device=device).view(64, 64).requires_grad_()
    moments = [torch.zeros_like(weights, requires_grad=False) for _ in range(2)]
    step = torch.zeros((), device=device)
    rate = torch.tensor(1e-3, device=device)
    batch = torch.zeros(1024, 64, device=device)

    def pause() -> None:
        # A launch of its own between two graphs, as Warp's physics is.
        if graph_break.can_break():
            graph_break.graph_break(lambda: lambda: batch.mul_(0.5))
        else:
            batch.mul_(0.5)

    def work() -> torch.Tensor:
        batch.normal_(generator=noise)
        pause()
        rows = torch.randperm(len(batch), generator=order, device=device)
        pause()
        loss = torch.tanh(batch[rows[:512]] @ weights).square().mean()
        (gradient,) = torch.autograd.grad(loss, [weights])
        with torch.no_grad():
            torch._fused_adam_(
                [weights],
                [gradient],
                [moments[0]],
                [moments[1]],
                [],
                [step],
                lr=rate,
                beta1=0.9,
                beta2=0.999,
                weight_decay=0.0,
                eps=1e-8,
                amsgrad=False,
                maximize=False,
            )
            step.add_(1.0)
        return weights

    launch = launcher(work, [noise, order])
    return [launch().detach().clone() for _ in range(8)]


def failure(scale: Any, cells: Sequence[str]) -> Found:
    """Break a capture on purpose and see that the process works on as if nothing had been recorded."""
    for cell in cells:
        yield cell, _break_a_capture() if scale.device == "cuda" else _NEEDS_GPU


def _break_a_capture() -> dict[str, Any]:
    import torch

    from factory.runtime import graphs

    value = torch.zeros(8, device="cuda")
    # Reading a value waits for the device, which no capture allows.
    broken = graphs.CudaGraphed(lambda: value.add_(1.0).sum().item(), [])
    good = graphs.CudaGraphed(lambda: value.mul(2.0), [])
    steps: dict[str, Callable[[], Any]] = {
        "work goes on": lambda: [broken() for _ in range(6)],
        "other work goes on": lambda: [good() for _ in range(6)],
        "default generator draws": lambda: torch.randn(8, device="cuda"),
        "memory is released": torch.cuda.empty_cache,
        "device is sound": torch.cuda.synchronize,
    }
    answers = {}
    for name, do in steps.items():
        try:
            do()
        except Exception as error:
            answers[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        else:
            answers[name] = "yes"
    recorded = broken.is_recorded or good.is_recorded
    return {"steps": answers, "recorded": recorded, "reason": graphs._captures.failure}


def engine(scale: Any, cells: Sequence[str]) -> Found:
    """Compare the engine on the GPU with itself on the CPU, and reset some environments among others."""
    import torch

    from factory.benchmark.harness import Harness

    for cell in cells:
        overrides = ["experiment=ant"] if cell.endswith("ant") else ["task=quadruped_velocity"]
        devices = ("cpu", "cuda") if scale.device == "cuda" else ("cpu", "cpu")
        states: list[Any] = []
        for device in devices:
            cfg = scale.config(*overrides, "num_envs=64", f"device={device}", "physics=warp")
            env = Harness.open(cfg).env.unwrapped
            env.reset(seed=0)
            states.append(env)
        reference, tested = states
        # The generators of the two devices draw other numbers, so both start from one state.
        start = {name: value.to("cpu") for name, value in reference.physics.state().items()}
        tested.physics.set_state({name: value.to(tested.device) for name, value in start.items()})
        for _ in range(20):
            reference.physics.step(4)
            tested.physics.step(4)
        fields = ("qpos", "qvel")
        differences = {
            name: (reference.physics.field(name) - tested.physics.field(name).cpu()).abs() for name in fields
        }
        # Contacts multiply a rounding, so the largest difference says less than the median.
        largest = {name: float(difference.max()) for name, difference in differences.items()}
        median = {name: float(difference.median()) for name, difference in differences.items()}
        mask = torch.arange(64, device=tested.device) < 8
        before = {name: value.clone() for name, value in tested.physics.state().items()}
        tested.physics.reset(mask)
        after = tested.physics.state()
        untouched = all(torch.equal(before[name][8:], after[name][8:]) for name in before)
        yield (
            cell,
            {
                "max": largest,
                "median": median,
                "reset_leaves_others": untouched,
                "warnings": list(tested.physics.warnings()),
            },
        )


def run_settings(scale: Any, folder: str) -> list[str]:
    """Return the overrides of a run whose folder is `<folder>/run`, with files only and nothing drawn."""
    return [
        f"device={scale.device}",
        f"physics={scale.physics}",
        "tracking=jsonl",
        "runtime.video_s=0",
        "runtime.register_model=false",
        f"output_root={folder}",
        f"hydra.run.dir={folder}/run",
    ]


def first_run(scale: Any, cells: Sequence[str]) -> Found:
    """Train for some iterations, resume from the checkpoint, and see whether graphs were captured."""
    size = 16 if scale.quick else 4096
    steps = size * (4 if scale.quick else 24)
    for cell in cells:
        with tempfile.TemporaryDirectory() as folder:
            shared = run_settings(scale, folder)
            task = [
                "task=quadruped_velocity",
                f"num_envs={size}",
                f"runtime.require_cuda_graphs={str(scale.device == 'cuda').lower()}",
                f"runtime.eval_episodes={2 if scale.quick else 64}",
            ]
            if scale.quick:
                task += ["learner.num_steps=4", "learner.num_minibatches=2", "task.max_episode_steps=20"]
            first = _train(*task, f"total_steps={20 * steps}", *shared)
            again = _train(f"resume={folder}/run", f"total_steps={24 * steps}")
            found: dict[str, Any] = {"first": first, "resumed": again}
            summary = Path(folder, "run", "summary.json")
            if summary.is_file():
                content = json.loads(summary.read_text())
                metrics = content["metrics"]
                found["energy_tier"] = content["tags"].get("energy.tier")
                found["physics_s"] = metrics.get("time/physics_s")
                found["sim_s"] = metrics.get("time/sim_s")
                found["tokens_per_s"] = metrics.get("factory/tokens_per_s")
        yield cell, found


def _train(*overrides: str) -> dict[str, Any]:
    """Run `factory.train`; return its exit status, time and the lines it wrote to standard error."""
    begin_s = time.perf_counter()
    command = [sys.executable, "-m", "factory.train", *overrides]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, env=os.environ)
    print(done.stdout[-2000:], done.stderr[-2000:])
    notes = [line for line in done.stderr.splitlines() if "graph" in line.lower()]
    last = (done.stderr.strip().splitlines() or [""])[-1][:300]
    wall_s = time.perf_counter() - begin_s
    return {"status": done.returncode, "wall_s": wall_s, "graph_lines": notes, "last_line": last}


def trace(scale: Any, cells: Sequence[str]) -> Found:
    """Profile one recorded iteration: idle time between kernels, and the kernels that take most."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from factory.benchmark.harness import Harness

    for cell in cells:
        if scale.device != "cuda":
            yield cell, _NEEDS_GPU
            continue
        harness = Harness.open(scale.config("task=quadruped_velocity", f"num_envs={scale.worlds(4096)}"))
        harness.warm_up(0)
        with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiled:
            harness.learner.update(harness.collector.collect()[0])
            torch.cuda.synchronize()
        kernels = sorted(
            (event.time_range.start, event.time_range.end, event.name)
            for event in profiled.events()
            if event.device_type == torch.autograd.DeviceType.CUDA
        )
        busy_us = 0.0
        covered = kernels[0][0]
        for start, end, _ in kernels:
            busy_us += max(0.0, end - max(start, covered))
            covered = max(covered, end)
        totals: dict[str, float] = {}
        for start, end, name in kernels:
            totals[name] = totals.get(name, 0.0) + end - start
        most = sorted(totals.items(), key=lambda item: -item[1])[:25]
        yield (
            cell,
            {
                "span_ms": 1e-3 * (covered - kernels[0][0]),
                "busy_ms": 1e-3 * busy_us,
                "kernels": len(kernels),
                "most_ms": {name[:120]: round(1e-3 * us, 3) for name, us in most},
            },
        )
        del harness
        gc.collect()
