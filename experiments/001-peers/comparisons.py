"""What is compared with what, and how far ahead this project means to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Round = Mapping[str, Mapping[str, float]]
"""Figures of one round, by worker and case."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A figure that a worker measures."""

    label: str
    worker: str
    case: str
    metric: str = "steps_per_s"

    @property
    def key(self) -> str:
        """Name of the measurement that the figure is part of."""
        return f"{self.worker}: {self.case}"

    def samples(self, rounds: Sequence[Round]) -> list[float]:
        """Return the figure of every round; nothing where the worker did not run."""
        return [found[self.key][self.metric] for found in rounds if self.key in found]


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A figure over another of the same round, or a share by itself."""

    label: str
    of: Quantity
    over: Quantity | None = None
    goal: float | None = None

    def samples(self, rounds: Sequence[Round]) -> list[float]:
        """Return the ratio of every round in which all workers ran."""
        if self.over is None:
            return self.of.samples(rounds)
        whole = [found for found in rounds if self.of.key in found and self.over.key in found]
        return [a / b for a, b in zip(self.of.samples(whole), self.over.samples(whole), strict=True)]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A panel of the figure: speeds of one task, and ratios between them."""

    name: str
    title: str
    speeds: tuple[Quantity, ...]
    ratios: tuple[Ratio, ...]


def stepping(task: str, *, over_engine: float, over_envpool: float) -> Comparison:
    """Compare `env.step` with random actions."""
    case = f"step {task}"
    engine = Quantity(label="mjbatch alone, 1024", worker="ours", case=case, metric="engine_steps_per_s")
    ours = Quantity(label="this project, 1024", worker="ours", case=case)
    envpool = Quantity(label="EnvPool, 1024", worker="envpool", case=case)
    sync = Quantity(label="Gymnasium sync, 16", worker="gymnasium", case=f"sync {task}")
    asynchronous = Quantity(label="Gymnasium async, 16", worker="gymnasium", case=f"async {task}")
    return Comparison(
        name=f"env {task}",
        title=f"{task}: env.step, random actions",
        speeds=(engine, ours, envpool, sync, asynchronous),
        ratios=(
            Ratio(label="env.step over mjbatch alone", of=ours, over=engine, goal=over_engine),
            Ratio(label="over EnvPool", of=ours, over=envpool, goal=over_envpool),
            Ratio(label="over Gymnasium SyncVectorEnv", of=ours, over=sync, goal=3.0),
            Ratio(label="over Gymnasium AsyncVectorEnv", of=ours, over=asynchronous),
        ),
    )


def ours_training(task: str, *, setting: str = "[64, 64]", metric: str = "steps_per_s") -> Quantity:
    """Return this project's side of a training comparison."""
    label = "this project" if setting.startswith("[") else "this project, SB3's setting"
    return Quantity(label=label, worker="ours", case=f"train {task} {setting}", metric=metric)


def sb3(task: str, *, goal: float, physics_share: float, more: tuple[Quantity, ...] = ()) -> Comparison:
    """Compare training with stable-baselines3, and say how much of this project's time is physics."""
    ours, peer = ours_training(task), Quantity(label="SB3 PPO", worker="sb3", case=f"train {task}")
    share = ours_training(task, metric="engine_share")
    return Comparison(
        name=f"sb3 {task}",
        title=f"{task}: training, 64-64",
        speeds=(peer, ours, *more),
        ratios=(
            Ratio(label="training over SB3 PPO", of=ours, over=peer, goal=goal),
            *(Ratio(label="the same, both in SB3's setting", of=other, over=peer) for other in more),
            Ratio(label="share of training time in the physics engine", of=share, goal=physics_share),
        ),
    )


def rsl_rl(hidden: str, *, goal: float) -> Comparison:
    """Compare training with rsl_rl's runner in the same environment."""
    task, name = "HalfCheetah-v5", hidden.strip("[]").replace(", ", "-")
    ours = ours_training(task, setting=hidden)
    peer = Quantity(label="rsl_rl", worker="rsl_rl", case=f"train {task} {hidden}")
    return Comparison(
        name=f"rsl_rl {name}",
        title=f"{task}: training, {name}",
        speeds=(ours, peer),
        ratios=(Ratio(label="training over rsl_rl in the same environment", of=ours, over=peer, goal=goal),),
    )


def unilab(*, goal: float) -> Comparison:
    """Compare training of Go2 with UniLab's, in the same scene, and each with its engine alone."""
    ours, own, peer = (
        {
            metric: Quantity(label=label + suffix, worker=worker, case=case, metric=metric)
            for metric, suffix in (("steps_per_s", ""), ("engine_steps_per_s", ": engine"))
        }
        for label, worker, case in (
            ("this project", "ours", "train Go2 in UniLab's scene"),
            ("own scene", "ours", "train Go2 in own scene"),
            ("UniLab", "unilab", "train Go2"),
        )
    )
    trains, engine = "steps_per_s", "engine_steps_per_s"
    return Comparison(
        name="unilab Go2",
        title="Go2, 2 x 10 ms: training, 64-64",
        speeds=(ours[engine], ours[trains], peer[engine], peer[trains], own[engine], own[trains]),
        ratios=(
            Ratio(label="training over UniLab in UniLab's scene", of=ours[trains], over=peer[trains], goal=goal),
            Ratio(label="the engines by themselves", of=ours[engine], over=peer[engine]),
            Ratio(label="this project's training over its engine", of=ours[trains], over=ours[engine]),
            Ratio(label="UniLab's training over its engine", of=peer[trains], over=peer[engine]),
            Ratio(label="training in this project's scene over UniLab in its own", of=own[trains], over=peer[trains]),
        ),
    )


COMPARISONS = (
    stepping("HalfCheetah-v5", over_engine=0.85, over_envpool=1.3),
    stepping("Ant-v5", over_engine=0.93, over_envpool=1.15),
    stepping("Humanoid-v5", over_engine=0.93, over_envpool=1.05),
    sb3("HalfCheetah-v5", goal=14.0, physics_share=0.70, more=(ours_training("HalfCheetah-v5", setting="as sb3"),)),
    rsl_rl("[64, 64]", goal=1.3),
    rsl_rl("[512, 256, 128]", goal=1.5),
    sb3("Ant-v5", goal=5.0, physics_share=0.90),
    unilab(goal=1.4),
)


def choose(names: Sequence[str]) -> list[Comparison]:
    """Return the comparisons whose name begins with one of `names`, all when there are none.

    Raises:
        ValueError: a name fits none.
    """
    for name in names:
        if not any(comparison.name.startswith(name) for comparison in COMPARISONS):
            known = ", ".join(comparison.name for comparison in COMPARISONS)
            raise ValueError(f"--only {name}: choose the beginning of one of {known}")
    return [found for found in COMPARISONS if not names or found.name.startswith(tuple(names))]
