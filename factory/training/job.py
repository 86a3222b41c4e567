"""A line: one training job, with its parts built from the configuration and its state as it goes."""

from __future__ import annotations

import dataclasses
import json
import signal
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, cast

import gymnasium
import torch
import yaml
from torch import Tensor

from factory import tracking
from factory.config import TrainConfig, label, to_plain
from factory.energy.ledger import Ledger
from factory.energy.meter import Meter
from factory.energy.reading import MeterReading, merge_readings
from factory.energy.tokens import TokenCounter
from factory.envs.core.shard import Shard
from factory.envs.core.training_env import COMMON_STATE, TrainingEnv, WorldError
from factory.learners.base import Learner
from factory.policies.base import Policy
from factory.reporting import console
from factory.reporting.console import Console
from factory.runtime import device, distributed, graphs, provenance, seeding
from factory.runtime.atomic_write import atomic_write
from factory.runtime.strict_json import nan_to_none
from factory.tracking import Journal, Tracker
from factory.training import checkpoint, metrics
from factory.training.checkpoint import Checkpoint
from factory.training.collector import Collector, Phase, groups

_ENERGY_FILE = "energy.json"


def make_env(
    cfg: TrainConfig,
    *,
    num_envs: int,
    render_mode: str | None = None,
    shard: Shard = Shard(),  # noqa: B008  it is immutable
) -> TrainingEnv:
    """Build the environments of `cfg`, `num_envs` of them."""
    env = gymnasium.make_vec(
        f"factory.envs:{cfg.task.id}",
        num_envs=num_envs,
        device=cfg.device,
        physics=cfg.physics,
        num_threads=len(device.own_cpus()),
        seed=cfg.seed,
        render_mode=render_mode,
        shard=shard,
        **cfg.task.env_kwargs(),
    )
    return cast(TrainingEnv, env.unwrapped)


def make_policy(cfg: TrainConfig, env: TrainingEnv) -> Policy:
    """Build the policy for the observation groups and actions of `env`."""
    obs, _ = env.reset()
    policy = cfg.policy.build(
        obs_sizes={name: group.shape[-1] for name, group in groups(obs).items()},
        action_space=env.single_action_space,
        control_hz=1.0 / env.step_dt_s,
        generator=seeding.make_generator(cfg.seed, stream=1, device=env.device),
    )
    return policy.to(env.device)


def make_loop(
    cfg: TrainConfig, env: TrainingEnv, policy: Policy, *, phase: Phase
) -> tuple[Collector, Learner, str]:
    """Build collector and learner.

    Returns:
        The two, and the reason why their work is not launched as CUDA graphs; empty if it is, or without a GPU.
    """
    policy.prepare()
    launcher, reason = graphs.make_launcher(
        env.device, capturable=env.capturable, wanted=cfg.runtime.cuda_graphs
    )
    collector = Collector(
        env=env, policy=policy, num_steps=cfg.learner.num_steps, phase=phase, launcher=launcher
    )
    generator = seeding.make_generator(cfg.seed, stream=2, device=policy.generator.device)
    learner = cfg.learner.build(policy, generator=generator, launcher=launcher)
    return collector, learner, reason


def load_tensors(cfg: TrainConfig, found: Checkpoint, env: TrainingEnv, **parts: Any) -> None:
    """Restore this process's worlds, and the parts that are given by the names of their tensors.

    Raises:
        ValueError: they do not fit.
    """
    rows = distributed.shard().rows(env.num_envs)
    for name, part in {"env": env, **parts}.items():
        try:
            state = found.tensors[name]
            if name in ("env", "collector"):
                state = {key: value if key in COMMON_STATE else value[rows] for key, value in state.items()}
            part.load_state_dict(state)
        except WorldError:  # where new episodes start
            raise
        except (AttributeError, LookupError, RuntimeError, ValueError) as error:
            what = f"resume={cfg.resume}: checkpoint {found.env_steps} does not fit"
            _, _, misfit = str(error).rpartition("\n")
            remedy = "resume without the keys that were changed"
            raise ValueError(f"{what} ({name}: {misfit.strip()}); {remedy}") from error


@dataclass(kw_only=True)
class Line:
    """Everything a training job holds. Use as a context manager: leaving it writes the run's last word."""

    cfg: TrainConfig
    run_dir: Path
    meter: Meter
    env: TrainingEnv
    policy: Policy
    learner: Learner
    collector: Collector
    tokens: TokenCounter
    tracker: Tracker
    journal: Journal
    console: Console
    tags: dict[str, str]
    no_graphs: str
    """Why rollouts and updates are not launched as CUDA graphs; empty if they are, or if there is no GPU."""
    env_steps: int = 0
    iteration: int = 0
    resumed_at: int = 0
    """Environment steps of the parts of the run before a resume."""
    physics_before_s: float = 0.0
    """Physics time of the parts of the run before a resume [s]."""
    aside_s: dict[str, float] = field(default_factory=dict)
    """By `time/` key, what earlier parts of the run spent after the checkpoint they were resumed from [s]."""
    threshold: dict[str, float] = field(default_factory=dict)
    """Joules and seconds at which the task's return threshold was first reached."""
    nonfinite: int = 0
    rollbacks: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    """Last value of every metric."""
    others: list[MeterReading] = field(default_factory=list)
    """What the meters of the other processes showed last."""
    others_before: list[MeterReading] = field(default_factory=list)
    """The same for the parts of the run before a resume, in one."""
    stop_asked: bool = False
    """Whether a signal asks for an early end."""
    interrupted: bool = False
    """Whether something was left out for it."""

    @classmethod
    def open(cls, cfg: TrainConfig, run_dir: Path, *, meter: Meter, parent_run_id: str | None = None) -> Line:
        """Build every part; with `cfg.resume`, restore the newest checkpoint of `run_dir`.

        Raises:
            ValueError: the checkpoint does not fit, or the ledger refuses the run.
        """
        resumed = checkpoint.load(Path(cfg.resume)) if cfg.resume else None
        device.set_up(cfg.runtime.torch_threads, precision=cfg.policy.precision)
        if cfg.device == "cpu":
            device.keep_to_own_cpus()
        seeding.seed_everything(cfg.seed)
        env = make_env(cfg, num_envs=cfg.num_envs // distributed.size(), shard=distributed.shard())
        policy = make_policy(cfg, env)
        collector, learner, no_graphs = make_loop(cfg, env, policy, phase=meter.phase)
        env.randomize_episode_phase()
        if resumed:
            load_tensors(cfg, resumed, env, policy=policy, learner=learner, collector=collector)
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "config.yaml").write_text(yaml.safe_dump(to_plain(cfg), sort_keys=False))
        tags = _tags(cfg, policy, env)
        output_root = Path(cfg.output_root).absolute()
        line = cls(
            cfg=cfg,
            run_dir=run_dir,
            meter=meter,
            env=env,
            policy=policy,
            learner=learner,
            collector=collector,
            no_graphs=no_graphs,
            tokens=TokenCounter(),
            tracker=tracking.open_tracker(
                cfg.tracking,
                run_dir=run_dir,
                output_root=output_root,
                experiment=label(cfg),
                run_name=run_dir.name,
                params=to_plain(cfg),
                tags=tags,
                resume_run_id=resumed.state["mlflow_run_id"] if resumed else None,
                parent_run_id=parent_run_id,
            ),
            journal=Journal(run_dir / "metrics.jsonl"),
            console=console.open_console(),
            tags=tags,
        )
        if resumed:
            line._restore(resumed)
        return line

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps of a rollout."""
        return self.cfg.num_envs * self.cfg.learner.num_steps

    def total(self, own: MeterReading) -> MeterReading:
        """Return the run's totals from those of this process, those of others as far as they are known."""
        return merge_readings([own, *self.others_before, *self.others])

    def save(self) -> Path:
        """Write a checkpoint of all processes' worlds, which rank 0 does."""
        self.meter.read()
        global_tensors, global_plain = seeding.global_state()
        state = {
            **self._spent(),
            "aside_s": self.aside_s,
            "env_steps": self.env_steps,
            "iteration": self.iteration,
            "physics_s": self.physics_s,
            "threshold": self.threshold,
            "metrics": self.metrics,
            "nonfinite": self.nonfinite,
            "rollbacks": self.rollbacks,
            "tokens": self.tokens.state_dict(),
            "generators": global_plain,
            "mlflow_run_id": self.tracker.run_id,
            "token_spec": dataclasses.asdict(self.policy.token_spec),
            "versions": provenance.versions(),
        }
        tensors = {
            "policy": self.policy.state_dict(),
            "learner": self.learner.state_dict(),
            "env": _gathered(self.env.state_dict()),
            "collector": _gathered(self.collector.state_dict()),
            "generators": global_tensors | {"policy": self.policy.generator.get_state()},
        }
        found = Checkpoint(env_steps=self.env_steps, tensors=tensors, state=state, config=to_plain(self.cfg))
        if distributed.rank() > 0:
            return self.run_dir
        return checkpoint.save(found, self.run_dir / "checkpoints", keep=self.cfg.runtime.keep_checkpoints)

    def note_energy(self) -> None:
        """Keep what was spent up to the last read: a resume has to know also what came after the last checkpoint."""
        with atomic_write(self.run_dir / _ENERGY_FILE) as unfinished:
            unfinished.write_text(json.dumps(self._spent()))

    def _spent(self) -> dict[str, Any]:
        others = self.others_before + self.others
        return {
            "meter": self.meter.state_dict(),
            "evaluation_tokens": self.tokens.evaluation,
            "other_meters": [dataclasses.asdict(merge_readings(others))] if others else [],
        }

    @property
    def physics_s(self) -> float:
        """Time spent in the training environment's physics engine, resumed parts included [s]."""
        return self.physics_before_s + self.env.physics_s

    def times(self, reading: MeterReading) -> dict[str, float]:
        """Return the `time/` figures of the training that led to the present weights.

        Joules count whatever was spent; seconds leave out evaluation, export and iterations lost before a resume.
        """
        times = {key: value - self.aside_s.get(key, 0.0) for key, value in metrics.times(reading).items()}
        return times | {"time/physics_s": self.physics_s}

    def _restore(self, found: Checkpoint) -> None:
        state, tensors = found.state, found.tensors
        self.env_steps, self.iteration = state["env_steps"], state["iteration"]
        self.resumed_at = self.env_steps
        self.physics_before_s, self.threshold = state["physics_s"], state["threshold"]
        self.metrics = state["metrics"]
        self.nonfinite, self.rollbacks = state["nonfinite"], state["rollbacks"]
        self.tokens.load_state_dict(state["tokens"])
        if distributed.rank() == 0:  # whose totals are those of all
            self._restore_spent(state)
        self.policy.generator.set_state(tensors["generators"].pop("policy").cpu())
        seeding.set_global_state(tensors["generators"], state["generators"])
        self.journal.truncate_after(self.env_steps)

    def _restore_spent(self, state: dict[str, Any]) -> None:
        """Go on from what was spent when the run stopped, which is more than what the checkpoint knows of."""
        try:
            spent = json.loads((self.run_dir / _ENERGY_FILE).read_text())
        except (OSError, ValueError):  # checkpoints that came here alone, or a machine that went down
            spent = state
        then, last = (Ledger.from_dict(known["meter"]).reading() for known in (state, spent))
        if last.wall_s < then.wall_s:  # killed between a checkpoint and the next note
            spent, last = state, then
        lost = {key: value - metrics.times(then)[key] for key, value in metrics.times(last).items()}
        self.aside_s = {key: value + state["aside_s"].get(key, 0.0) for key, value in lost.items()}
        self.meter.load_state_dict(spent["meter"])
        self.tokens.evaluation = spent["evaluation_tokens"]
        self.others_before = [MeterReading(**known) for known in spent["other_meters"]]

    def __enter__(self) -> Line:
        """Let SIGINT and SIGTERM end the run after the current iteration or stage; a second SIGINT ends it at once."""
        self._old_handlers = {
            number: signal.signal(number, self._interrupt) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write `summary.json`, and close console, tracker, environment and meter."""
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        interrupted = self.interrupted or kind is KeyboardInterrupt
        status = "interrupted" if interrupted else "failed" if kind else "finished"
        self.console.close()
        self.tracker.close(status)  # the run id may be known only now, when a server came back
        try:
            write_summary(self, status)
            self.meter.read()
            self.note_energy()
        finally:
            self.env.close()
            self.meter.close()

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.stop_asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.stop_asked = True
        training = self.env_steps < self.cfg.total_steps
        step = (
            "iteration, then writing a checkpoint"
            if training
            else "stage, leaving out all others but the report"
        )
        self.console.message(f"interrupted: finishing the {step}")


def _gathered(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the rows of all processes' worlds, and what all worlds have in common."""
    return {
        name: value if name in COMMON_STATE else distributed.gather(value) for name, value in state.items()
    }


def write_summary(line: Line, status: str) -> None:
    """Write `summary.json`, the run's last word."""
    content = {
        "status": status,
        "mlflow_run_id": line.tracker.run_id,
        "metrics": line.metrics,
        "tokens": line.tokens.state_dict(),
        "tags": line.tags,
        "versions": provenance.versions(),
        "device": device.describe(torch.device(line.cfg.device)),
    }
    with atomic_write(line.run_dir / "summary.json") as unfinished:
        unfinished.write_text(json.dumps(nan_to_none(content), indent=1, allow_nan=False))


def _tags(cfg: TrainConfig, policy: Policy, env: TrainingEnv) -> dict[str, str]:
    return {
        "task": label(cfg),
        "robot": env.robot_name,
        "physics": env.physics_name,
        "device": device.describe(torch.device(cfg.device)),
        "token_spec.hash": policy.token_spec.hash,
        **provenance.git_tags(),
    }
