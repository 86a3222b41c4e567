"""Faults of the kind: a command line that cannot be right."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from promises import REFUSED, Fault
from workshop import JOB, Seen, Workshop, listing

TRAIN = (
    ("seed=-1",),
    ("seed=1.5",),
    ("num_envs=0",),
    ("num_envs=many",),
    ("total_steps=-5",),
    ("total_steps=nan",),
    ("checkpoint_every=0",),
    ("task=cartpol",),
    ("task=../../etc/passwd",),
    ("task=gymnasium", "env_id=Nowhere-v0"),
    ("task=gymnasium", "env_id=odd:module/Name-v0"),
    ("robot=file:/nowhere.xml", "task=quadruped_velocity"),
    ("robot=menagerie:unicorn", "task=quadruped_velocity"),
    ("physics=havok",),
    ("device=gpu",),
    ("device=cuda",),
    ("policy.actor_hidden=[]",),
    ("policy.actor_hidden=[-3]",),
    ("policy.actor_hidden=[1e3x]",),
    ("policy.init_std=inf",),
    ("policy.init_std=0",),
    ("learner.learning_rate=0",),
    ("learner.learning_rate=nan",),
    ("learner.gamma=1.5",),
    ("learner.num_minibatches=1000000",),
    ("learner.schedule=wavy",),
    ("runtime.video_s=inf",),
    ("runtime.video_width=641",),
    ("runtime.torch_threads=-1",),
    ("runtime.renderer=oil",),
    ("runtime.keep_checkpoints=0",),
    ("runtime.require_cuda_graphs=true",),
    ("task.max_episode_steps=0",),
    ("task.rewards.height=nan", "task=quadruped_velocity"),
    ("energy.source=perpetuum",),
    ("energy.site.pue=0.2",),
    ("tracking.uri=gopher://x",),
    ("plugins=[missing.py]",),
    ("resume=nowhere",),
    ("resume=last",),
    ("nonsense=1",),
    ("+learner.nonsense=1",),
    ("learner=",),
    ("learner.lr=1e-3",),
    ("=3",),
    ("seed",),
    ("--sead", "3"),
    ("task.wrappers=[os:system]", "task=gymnasium", "env_id=CartPole-v1"),
    ("output_root=/proc/nope",),
    ("output_root=/dev/null/x",),
)
OTHERS = (
    ("evaluate",),
    ("evaluate", "run=nowhere"),
    ("evaluate", "run=RUN", "seed=-1"),
    ("evaluate", "run=RUN", "episodes=0"),
    ("evaluate", "run=RUN", "episodes=inf"),
    ("evaluate", "run=RUN", "checkpoint=99999999"),
    ("evaluate", "run=RUN", "nonsense=1"),
    ("evaluate", "run=/dev/zero"),
    ("compare", "run=nowhere"),
    ("compare", "runs=[]"),
    ("compare", "nowhere"),
    ("doctor", "nonsense=1"),
    ("bench", "num_envs=-4"),
    ("bench", "sizes=[0]"),
    ("tasks", "nonsense"),
)


def _inject(module: str, arguments: tuple[str, ...], shop: Workshop, folder: Path) -> Seen:
    run_dir = shop.original() if "run=RUN" in arguments else None
    chosen = tuple(f"run={run_dir}" if word == "run=RUN" else word for word in arguments)
    job = JOB if module == "train" else ()
    if any(word.startswith("task=") for word in chosen):
        # The settings of the cart-pole's job need not exist elsewhere.
        job = ("num_envs=16", "total_steps=1000")
    watched = [folder] if run_dir is None else [folder, run_dir]
    before = [listing(path) for path in watched]
    seen = shop.run(module, *job, *chosen, folder=folder)
    written = [listing(path) for path in watched] != before
    return dataclasses.replace(seen, lost="something was written") if written else seen


def faults() -> Iterator[Fault]:
    """Yield a fault for every mistake."""
    cases = [("train", words) for words in TRAIN] + [(words[0], words[1:]) for words in OTHERS]
    for module, words in cases:
        name = f"{module} {' '.join(words)}".strip()
        yield Fault(kind="mistake", name=name, promise=REFUSED, inject=partial(_inject, module, words))
