"""The jobs of the experiment: each takes some cells, one after another, in a process of its own."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import basics
import floors

CHECKOUT = Path(__file__).parents[2]
TASKS = {
    "cartpole_swingup": ["task=cartpole_swingup"],
    "half_cheetah": ["experiment=half_cheetah"],
    "quadruped_velocity": ["task=quadruped_velocity"],
    "unitree_go1": ["task=quadruped_velocity", "robot=menagerie:unitree_go1"],
}
SIZES = (1024, 4096, 8192, 32768)
GRAPH_SIZE = 4096
PEER_TASKS, PEER_SIZES = ("quadruped_velocity", "half_cheetah"), (4096, 8192)
HIDDEN = [512, 256, 128]
PEER_PPO = [
    *[f"policy.{net}_hidden={json.dumps(HIDDEN)}" for net in ("actor", "critic")],
    *["policy.activation=elu", "learner.num_steps=24", "learner.num_epochs=5", "learner.num_minibatches=4"],
]
"""Networks and PPO as rsl_rl's users have them."""
TRAININGS = {
    "quadruped_velocity": (
        ["task=quadruped_velocity", "num_envs=4096", "total_steps=20_000_000"],
        40.0,
        120.0,
    ),
    "half_cheetah": (["experiment=half_cheetah", "num_envs=2048", "total_steps=40_000_000"], 6000.0, 240.0),
    "ant": (["experiment=ant", "num_envs=2048", "total_steps=80_000_000"], 6000.0, 420.0),
}
"""Overrides, return to be reached, and time without which a training is not begun [s].

The presets are those of the
CPU, with more worlds and steps: on a GPU nobody has tuned them."""
_REPEATS, _SECONDS = 3, 0.4
Found = Iterator[tuple[str, dict[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Where, and how large."""

    quick: bool
    device: str
    physics: str

    @property
    def seconds(self) -> float:
        """Length of a level in a round [s]."""
        return 0.02 if self.quick else _SECONDS

    @property
    def repeats(self) -> int:
        """Rounds."""
        return 1 if self.quick else _REPEATS

    def worlds(self, size: int) -> int:
        """Return the number of worlds that stands for `size`."""
        return max(4, size // 512) if self.quick else size

    def config(self, *overrides: str) -> Any:
        """Return a training job on this device."""
        from factory import cli, options

        options.register()
        smaller = ["learner.num_steps=4", "learner.num_minibatches=2"] if self.quick else []
        return cli.single_job([*overrides, f"device={self.device}", f"physics={self.physics}", *smaller])

    def wait(self) -> None:
        """Wait until the device has done all."""
        import torch

        if self.device == "cuda":
            torch.cuda.synchronize()


@dataclass(frozen=True, kw_only=True)
class Job:
    """Cells that one process takes."""

    name: str
    cells: tuple[str, ...]
    need_s: float
    """Time without which it is not begun [s]; a guess made without a GPU."""
    take: Callable[[Scale, Sequence[str]], Found] | None = None
    """Yields every cell with its figures; None where `mjlab_go1.py` does, which needs other versions of
    everything.
    """


def compile_kernels(scale: Scale, cells: Sequence[str]) -> Found:
    """Build every environment once, at the same time, so that later jobs find Warp's kernels in its cache."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]; from parts import Scale, built; "
        "built(Scale(quick=False, device=sys.argv[3], physics=sys.argv[4]), sys.argv[5:])"
    )
    names = [str(Path(__file__).parent), str(CHECKOUT), scale.device, scale.physics]
    jobs = {cell: TASKS.get(cell.split()[-1], ["experiment=ant"]) for cell in cells}
    begin_s = time.perf_counter()
    running = {
        cell: subprocess.Popen([sys.executable, "-c", code, *names, *job]) for cell, job in jobs.items()
    }
    for cell, process in running.items():
        if process.wait():
            yield cell, {"error": f"exit status {process.returncode}; see compile.log"}
        else:
            yield cell, {"wall_s": time.perf_counter() - begin_s}


def built(scale: Scale, overrides: Sequence[str]) -> None:
    """Build an environment and let it step."""
    from factory.benchmark.harness import Harness

    harness = Harness.open(scale.config(*overrides, "num_envs=32", "learner.num_steps=4"))
    harness.collector.collect()
    scale.wait()


def check(scale: Scale, cells: Sequence[str]) -> Found:
    """Run the tests that ask for a GPU, among them that recorded iterations equal eager ones."""
    for cell in cells:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rfEs", cell.split()[-1]]
        done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT)
        counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)}
        notes = re.findall(r"^(?:FAILED|ERROR|SKIPPED).*", done.stdout, re.MULTILINE)
        yield cell, {"status": done.returncode, **counts, "notes": notes, "tail": done.stdout[-1500:]}


def bench_task(name: str, scale: Scale, cells: Sequence[str]) -> Found:
    """Time physics, env.step, rollouts and learning of one task, nested in each other."""
    from factory.benchmark import throughput

    for cell in cells:
        size = scale.worlds(int(cell.split("=")[-1]))
        cfg = scale.config(*TASKS[name], f"num_envs={size}")
        (row,) = throughput.bench(cfg, sizes=[size], seconds=scale.seconds, repeats=scale.repeats)
        yield cell, dataclasses.asdict(row) | _peak_memory(scale)
        # A next cell must not share a CUDA stream or memory with graphs that are about to go.
        gc.collect()


def _peak_memory(scale: Scale) -> dict[str, float]:
    """Return the largest memory that torch reserved since the last call [GB]; Warp's is beside it."""
    import torch

    if scale.device != "cuda":
        return {}
    free, total = torch.cuda.mem_get_info()
    reserved = torch.cuda.max_memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    return {"torch_peak_gb": reserved / 1e9, "device_used_gb": (total - free) / 1e9}


def graphs(scale: Scale, cells: Sequence[str]) -> Found:
    """Train with CUDA graphs and without, in turn."""
    from factory.benchmark.harness import Harness

    for cell in cells:
        task = [*TASKS[cell.split()[-1]], f"num_envs={scale.worlds(GRAPH_SIZE)}"]
        harnesses = {
            word: Harness.open(scale.config(*task, f"runtime.cuda_graphs={word}"))
            for word in ("true", "false")
        }
        for harness in harnesses.values():
            harness.warm_up(0)
        speeds = in_turn(scale, {word: partial(ours, harness) for word, harness in harnesses.items()})
        launches = {
            "rollout": getattr(harnesses["true"].collector, "_recorded", None),  # absent without a GPU
            "update": harnesses["true"].learner._launch,
        }
        recorded = [name for name, launch in launches.items() if getattr(launch, "is_recorded", False)]
        yield cell, {"captured": speeds["true"], "eager": speeds["false"], "recorded": recorded}


def peer(scale: Scale, cells: Sequence[str]) -> Found:
    """Train with this project's learner and with rsl_rl's runner, in the same environment, in turn."""
    from importlib import metadata

    from rsl_rl.runners import OnPolicyRunner

    from factory.benchmark.harness import Harness
    from factory.envs.adapters.rsl_rl import RslRlVecEnv
    from factory.training.build import make_env

    for cell in cells:
        _, task, size = cell.split()
        cfg = scale.config(*TASKS[task], *PEER_PPO, f"num_envs={scale.worlds(int(size.split('=')[-1]))}")
        harness = Harness.open(cfg)
        harness.warm_up(0)
        env = RslRlVecEnv(make_env(cfg, num_envs=cfg.num_envs))
        runner = OnPolicyRunner(
            env, rsl_rl_settings(cfg, groups=list(env.get_observations().keys())), device=scale.device
        )
        runner.learn(2, init_at_random_ep_len=True)

        def iterate(runner: Any = runner, cfg: Any = cfg) -> int:
            runner.learn(1)
            return int(cfg.num_envs * cfg.learner.num_steps)

        speeds = in_turn(scale, {"ours": partial(ours, harness), "rsl_rl": iterate})
        yield cell, {**speeds, "rsl_rl_version": metadata.version("rsl-rl-lib")}


def rsl_rl_settings(cfg: Any, *, groups: Sequence[str]) -> dict[str, Any]:
    """Return rsl_rl's configuration of the same networks and the same PPO.

    What is not named is its default.
    """
    network = {
        "class_name": "MLPModel",
        "hidden_dims": HIDDEN,
        "activation": "elu",
        "obs_normalization": True,
    }
    noise = {"class_name": "GaussianDistribution", "init_std": cfg.policy.init_std, "std_type": "log"}
    learner = cfg.learner
    return {
        "num_steps_per_env": learner.num_steps,
        "save_interval": 1_000_000,
        "obs_groups": {"actor": ["policy"], "critic": [groups[-1]]},
        "actor": network | {"distribution_cfg": noise},
        "critic": network,
        "algorithm": {
            "class_name": "PPO",
            "num_learning_epochs": learner.num_epochs,
            "entropy_coef": learner.entropy_coef,
            "num_mini_batches": learner.num_minibatches,
            "gamma": learner.gamma,
            "desired_kl": learner.desired_kl,
        },
    }


def ours(harness: Any) -> int:
    """Make an iteration; return its control steps."""
    harness.learner.update(harness.collector.collect()[0])
    return int(harness.steps)


def in_turn(scale: Scale, loops: dict[str, Callable[[], int]]) -> dict[str, list[float]]:
    """Return the speeds of loops in every round, one after the other in each [control steps/s]."""
    speeds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(scale.repeats + 2 * (not scale.quick)):
        for name, iterate in loops.items():
            scale.wait()
            begin_s, steps = time.perf_counter(), 0
            while time.perf_counter() - begin_s < 2 * scale.seconds:
                steps += iterate()
                scale.wait()
            speeds[name].append(steps / (time.perf_counter() - begin_s))
    return speeds


def train(scale: Scale, cells: Sequence[str]) -> Found:
    """Train with the whole line: meter, checkpoints, deterministic evaluation on fixed seeds."""
    for cell in cells:
        overrides, threshold, _ = TRAININGS[cell.split()[-1]]
        if scale.quick:
            overrides = [
                *overrides,
                "num_envs=16",
                "total_steps=256",
                "learner.num_steps=4",
                "runtime.eval_episodes=2",
            ]
            overrides += ["learner.num_minibatches=2", "task.max_episode_steps=20"]
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable,
                "-m",
                "factory.train",
                *overrides,
                f"task.return_threshold={threshold}",
                *basics.run_settings(scale, folder),
            ]
            begin_s = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, env=os.environ)
            process_s = time.perf_counter() - begin_s
            print(done.stdout[-4000:], done.stderr[-4000:])
            if done.returncode:
                yield cell, {"error": (done.stderr.strip().splitlines() or ["no word"])[-1][:300]}
                continue
            summary = json.loads(Path(folder, "run", "summary.json").read_text())
        yield cell, {"threshold": threshold, "process_s": process_s, "overrides": overrides, **summary}


def _all_jobs() -> Iterator[Job]:
    """Yield the jobs in the order in which they teach most, should the time end early."""
    yield Job(name="machine", cells=("machine",), need_s=20.0, take=basics.machine)
    yield Job(name="torch-graphs", cells=("torch-graphs",), need_s=30.0, take=basics.torch_graphs)
    yield Job(name="failure", cells=("failure",), need_s=30.0, take=basics.failure)
    builds = tuple(f"compile {name}" for name in (*TASKS, "ant"))
    yield Job(name="compile", cells=builds, need_s=90.0, take=compile_kernels)
    engines = ("engine quadruped_velocity", "engine ant")
    yield Job(name="engine", cells=engines, need_s=20.0, take=basics.engine)
    yield Job(name="check", cells=("check tests/factory/runtime/test_graphs.py",), need_s=40.0, take=check)
    yield Job(name="first-run", cells=("first-run",), need_s=60.0, take=basics.first_run)
    yield Job(name="floor", cells=("floor",), need_s=60.0, take=floors.floor)
    pairs = ("quadruped_velocity", "half_cheetah")
    yield Job(name="graphs", cells=tuple(f"graphs {name}" for name in pairs), need_s=45.0, take=graphs)
    yield Job(name="trace", cells=("trace",), need_s=30.0, take=basics.trace)
    # The tasks that matter most come first, and the largest size before the others.
    for name in reversed(TASKS):
        sizes = tuple(f"bench {name} worlds={size}" for size in reversed(SIZES))
        yield Job(name=f"bench-{name}", cells=sizes, need_s=60.0, take=partial(bench_task, name))
    peers = tuple(f"peer {task} worlds={size}" for task in PEER_TASKS for size in PEER_SIZES)
    yield Job(name="peer", cells=peers, need_s=60.0, take=peer)
    for name, (_, _, need_s) in TRAININGS.items():
        yield Job(name=f"train-{name}", cells=(f"train {name}",), need_s=need_s, take=train)
    yield Job(name="mjlab", cells=tuple(f"mjlab worlds={size}" for size in PEER_SIZES), need_s=90.0)


JOBS = {job.name: job for job in _all_jobs()}


def jobs(only: Sequence[str]) -> list[Job]:
    """Return the jobs whose names begin so.

    Raises:
        SystemExit: there is none.
    """
    found = [job for name, job in JOBS.items() if name.startswith(tuple(only))]
    if not found:
        raise SystemExit(
            f"error: --only {' '.join(only)}: no job's name begins so; they are {', '.join(JOBS)}"
        )
    return found
