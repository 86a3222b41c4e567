"""The parts of a training job, built from its configuration."""

from __future__ import annotations

import sys
from pathlib import Path

import gymnasium

from factory import plugins
from factory.config import TrainConfig
from factory.envs.core.errors import WorldError
from factory.envs.core.shard import Shard
from factory.envs.core.training_env import TrainingEnv
from factory.envs.rendering.camera import Camera
from factory.learners.base import Learner
from factory.policies.base import Policy
from factory.runtime import device, graphs, seeding
from factory.runtime.cpus import usable_cpus
from factory.training.collector import Collector, Phase, groups
from factory.training.watchdog import watch_steps


def make_env(
    cfg: TrainConfig,
    *,
    num_envs: int,
    render_mode: str | None = None,
    shard: Shard = Shard(),  # noqa: B008  it is immutable
    evaluation: bool = False,
) -> TrainingEnv:
    """Build `num_envs` environments.

    Args:
        cfg: the job.
        num_envs: environments of this process.
        render_mode: `rgb_array` for environments that draw their own pictures, None otherwise.
        shard: place of these environments among those of all processes.
        evaluation: True for the worlds of an evaluation, which a task may keep apart from those of training.

    Raises:
        ValueError: the environment cannot be built, or lacks what training needs.
    """
    task = cfg.task.env_kwargs()
    if evaluation:
        task = cfg.task.eval_kwargs()
    try:
        # Through Gymnasium's registry, as users of the environments build them.
        env = gymnasium.make_vec(
            f"factory.envs:{cfg.task.id}",
            num_envs=num_envs,
            device=cfg.device,
            physics=cfg.physics,
            # A power profile may keep the process on fewer CPUs than it was given.
            num_threads=min(len(device.own_cpus()), len(usable_cpus())),
            seed=cfg.seed,
            render_mode=render_mode,
            shard=shard,
            **task,
        )
    except (ValueError, WorldError, OSError, MemoryError):
        raise
    except Exception as error:  # whatever the class that a plug-in names raises
        raise ValueError(f"task={cfg.task.name}: {_why(error, cfg)}") from error
    if not isinstance(env.unwrapped, TrainingEnv):
        raise ValueError(
            f"task={cfg.task.name}: {cfg.task.env} is no TrainingEnv; derive it from BatchEnv or EpisodeEnv"
        )

    # A video that cannot be drawn would only be found out after the training.
    camera = getattr(env.unwrapped, "camera", None)
    if not (camera is None or isinstance(camera, Camera)):
        env.close()
        raise ValueError(
            f"task={cfg.task.name}: its camera is {camera!r}; write camera = Camera(fixed=<name>), "
            "with Camera from factory.envs.rendering.camera"
        )
    # `make_vec` adds no wrapper that the loop needs.
    own = env.unwrapped
    if cfg.task.step_timeout_s and not own.limits_steps:
        watch_steps(own)
    return own


def _why(error: Exception, cfg: TrainConfig) -> str:
    """Return on one line why the environment of a task was not built."""
    module = sys.modules.get(cfg.task.env.partition(":")[0])
    path = Path(getattr(module, "__file__", None) or "")
    return f"{cfg.task.env}: {plugins.brief(error, path)}"


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
        The two, and the reason why their work is not launched as CUDA graphs; empty if it is, or without a
        GPU.
    """
    cfg.learner.check_policy(policy, num_envs=env.num_envs)
    policy.prepare()
    launcher, reason = graphs.make_launcher(
        env.device,
        capturable=env.capturable,
        wanted=cfg.runtime.cuda_graphs,
        required=cfg.runtime.require_cuda_graphs,
    )
    collector = Collector(
        env=env, policy=policy, num_steps=cfg.learner.num_steps, phase=phase, launcher=launcher
    )
    # A stream of its own: how many numbers the policy draws must not change the learner's minibatches.
    generator = seeding.make_generator(cfg.seed, stream=2, device=policy.generator.device)
    learner = cfg.learner.build(policy, generator=generator, launcher=launcher)
    return collector, learner, reason
