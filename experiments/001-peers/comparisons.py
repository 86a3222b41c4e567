"""What is compared with what, and how far ahead this project means to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
        title=f"env.step, {task}",
        speeds=(engine, ours, envpool, sync, asynchronous),
        ratios=(
            Ratio(label="env.step over mjbatch alone", of=ours, over=engine, goal=over_engine),
            Ratio(label="over EnvPool", of=ours, over=envpool, goal=over_envpool),
            Ratio(label="over Gymnasium SyncVectorEnv", of=ours, over=sync, goal=3.0),
            Ratio(label="over Gymnasium AsyncVectorEnv", of=ours, over=asynchronous),
            Ratio(label="over EnvPool's steps that simulate", of=ours, over=simulated(envpool)),
            Ratio(label="over SyncVectorEnv's steps that simulate", of=ours, over=simulated(sync)),
        ),
    )


def simulated(steps: Quantity) -> Quantity:
    """Return the same without the steps in which a world was reset instead."""
    return replace(steps, metric="executed_steps_per_s")


def training(label: str, worker: str, case: str, metric: str = "steps_per_s") -> Quantity:
    """Return a figure of a training run."""
    return Quantity(label=label, worker=worker, case=f"train {case}", metric=metric)


def sb3() -> Comparison:
    """Compare training with stable-baselines3, and say how much of this project's time is physics."""
    cheetah, ant = "HalfCheetah-v5", "Ant-v5"
    peer, peer_ant = training("SB3, HalfCheetah", "sb3", cheetah), training("SB3, Ant", "sb3", ant)
    ours = training("this project, HalfCheetah", "ours", f"{cheetah} [64, 64]")
    alike = training("the same in SB3's setting", "ours", f"{cheetah} as sb3")
    ours_ant = training("this project, Ant", "ours", f"{ant} [64, 64]")
    share, share_ant = (replace(quantity, metric="engine_share") for quantity in (ours, ours_ant))
    return Comparison(
        name="sb3",
        title="Training beside SB3",
        speeds=(peer, ours, alike, peer_ant, ours_ant),
        ratios=(
            Ratio(label="HalfCheetah, training over SB3 PPO", of=ours, over=peer, goal=14.0),
            Ratio(label="HalfCheetah, both in SB3's setting", of=alike, over=peer),
            Ratio(label="HalfCheetah, share of training time in the engine", of=share, goal=0.70),
            Ratio(label="Ant, training over SB3 PPO", of=ours_ant, over=peer_ant, goal=5.0),
            Ratio(label="Ant, share of training time in the engine", of=share_ant, goal=0.90),
        ),
    )


def rsl_rl() -> Comparison:
    """Compare training with rsl_rl's runner in the same environment."""
    sizes = {"64-64": ("[64, 64]", 1.3), "512-256-128": ("[512, 256, 128]", 1.5)}
    speeds, ratios = [], []
    for size, (hidden, goal) in sizes.items():
        ours, peer = (
            training(f"{label}, {size}", worker, f"HalfCheetah-v5 {hidden}")
            for label, worker in (("this project", "ours"), ("rsl_rl", "rsl_rl"))
        )
        speeds += [peer, ours]
        ratios.append(Ratio(label=f"{size}, training over rsl_rl", of=ours, over=peer, goal=goal))
    rounded = training("this project in bfloat16", "ours", "HalfCheetah-v5 [512, 256, 128] bfloat16")
    ratios.append(Ratio(label="512-256-128 in bfloat16, over rsl_rl in float32", of=rounded, over=speeds[-2]))
    speeds.append(rounded)
    return Comparison(
        name="rsl_rl",
        title="Training beside rsl_rl",
        speeds=tuple(speeds),
        ratios=tuple(ratios),
    )


def unilab() -> Comparison:
    """Compare training of Go2 with UniLab's, in the same scene, and each with its engine by itself."""
    ours = training("this project", "ours", "Go2 in UniLab's scene")
    own = training("this project, own scene", "ours", "Go2 in own scene")
    peer = training("UniLab", "unilab", "Go2")
    engine, own_engine, peer_engine = (
        replace(quantity, label=f"{quantity.label}: engine", metric="engine_steps_per_s")
        for quantity in (ours, own, peer)
    )
    return Comparison(
        name="unilab",
        title="Training Go2 beside UniLab",
        speeds=(peer_engine, peer, engine, ours, own_engine, own),
        ratios=(
            Ratio(label="training over UniLab, both in UniLab's scene", of=ours, over=peer, goal=1.4),
            Ratio(label="engine over UniLab's engine in these runs", of=engine, over=peer_engine),
            Ratio(label="training over its own engine, this project", of=ours, over=engine),
            Ratio(label="training over its own engine, UniLab", of=peer, over=peer_engine),
            Ratio(label="training in this project's scene over UniLab in its own", of=own, over=peer),
        ),
    )


COMPARISONS = (
    stepping("HalfCheetah-v5", over_engine=0.85, over_envpool=1.3),
    stepping("Ant-v5", over_engine=0.93, over_envpool=1.15),
    stepping("Humanoid-v5", over_engine=0.93, over_envpool=1.05),
    sb3(),
    rsl_rl(),
    unilab(),
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
