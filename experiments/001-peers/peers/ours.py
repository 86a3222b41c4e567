"""The project itself: `env.step` beside mjbatch alone, and training."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import gymnasium
import mjbatch
import mujoco
import torch
from peers.serving import Measure, serve
from peers.stepping import SETTLE_STEPS, random_actions

from factory import cli, options
from factory.benchmark.harness import Harness
from factory.envs.robots import loading, quadruped
from factory.envs.tasks import quadruped_velocity as locomotion
from factory.envs.tasks.gym_mujoco.base import ASSETS
from factory.runtime import device

NUM_ENVS = 1024
THREADS = int(os.environ["OMP_NUM_THREADS"])
UNILAB_SCENE = "../unilab/src/unilab/assets/robots/go2/scene_flat.xml"
"""Seen from the folder in which this worker runs."""
STEPS_AT_A_TIME = 8
"""Control steps that environment and engine make in turn."""
PPO = ("learner.num_epochs=5", "learner.num_minibatches=4", "learner.num_steps=24", f"num_envs={NUM_ENVS}")
AS_SB3 = ("learner.num_epochs=10", "learner.num_minibatches=256", "learner.num_steps=2048", "num_envs=8")
GO2 = ("robot=menagerie:unitree_go2", "task.timestep_s=0.01", "task.decimation=2", "policy.activation=elu")


def stepping(task: str) -> Measure:
    """Time `env.step`, and `Batch.step` of the plain model from the same states with the same actions."""
    env: Any = gymnasium.make_vec(
        f"factory.envs:factory/{task}", num_envs=NUM_ENVS, num_threads=THREADS, seed=0
    )
    inner = env.unwrapped
    raw = mjbatch.Batch(mujoco.MjModel.from_xml_path(str(ASSETS / inner.model_file)), NUM_ENVS, THREADS)
    rows, ctrl = raw.bind("state"), raw.bind("ctrl")
    actions = random_actions(env.single_action_space, NUM_ENVS)
    obs, _ = env.reset()
    threads = device.elementwise_threads(obs.numel())  # as in a rollout of training

    def measure(seconds: float) -> dict[str, float]:
        env_s = raw_s = 0.0
        steps = 0
        with device.torch_threads(threads):
            while min(env_s, raw_s) < seconds or not steps:
                taken = []
                for _ in range(STEPS_AT_A_TIME):
                    action, before = next(actions), inner.physics.state()["integration"].numpy()
                    env_s += seconds_of(partial(env.step, torch.from_numpy(action)))
                    taken.append((before, action))
                for before, action in taken:
                    rows[:] = before
                    ctrl[:] = action
                    raw_s += seconds_of(partial(raw.step, nstep=inner.decimation))
                steps += STEPS_AT_A_TIME * NUM_ENVS
        return {"steps_per_s": steps / env_s, "engine_steps_per_s": steps / raw_s}

    for _ in range(SETTLE_STEPS):
        env.step(torch.from_numpy(next(actions)))
    return measure


def seconds_of(work: Callable[[], Any]) -> float:
    """Return how long `work` takes [s]."""
    begin_s = time.perf_counter()
    work()
    return time.perf_counter() - begin_s


def training(*overrides: str, threads: int = THREADS) -> Measure:
    """Collect and learn as `factory.train` does, without tracker and checkpoints, as the peers do."""
    harness = Harness.open(cli.single_job(overrides))
    harness.train(harness.stopwatch(), iterations=2)

    def measure(seconds: float) -> dict[str, float]:
        torch.set_num_threads(threads)
        wall_s = physics_s = iterations = 0.0
        while wall_s < seconds or not iterations:
            segment = harness.train(harness.stopwatch(), iterations=1)
            wall_s += segment.reading.wall_s
            physics_s += segment.physics_s or 0.0
            iterations += 1
        steps = iterations * harness.steps
        return {
            "steps_per_s": steps / wall_s,
            "engine_steps_per_s": steps / physics_s,
            "engine_share": physics_s / wall_s,
        }

    return measure


def gym_training(task: str, *overrides: str, hidden: str = "[64,64]", threads: int = THREADS) -> Measure:
    """Train a gymnasium task; tanh is what stable-baselines3 uses, and rsl_rl is told to."""
    networks = (f"policy.actor_hidden={hidden}", f"policy.critic_hidden={hidden}", "policy.activation=tanh")
    return training(f"task={task}", f"physics.num_threads={THREADS}", *networks, *overrides, threads=threads)


def go2_training(load: Callable[[str], quadruped.Quadruped]) -> Measure:
    """Train Go2 with UniLab's time step and decimation, in the scene that `load` returns."""
    with mock.patch.object(locomotion, "load_quadruped", load):
        return training("task=quadruped_velocity", f"physics.num_threads={THREADS}", *GO2, *PPO)


def go2_in_unilabs_scene(robot: str) -> quadruped.Quadruped:
    """Load UniLab's scene as it is: its contacts, solver, actuators, terrain and sensors."""
    spec = mujoco.MjSpec.from_file(UNILAB_SCENE)
    spec.compiler.discardvisual = True  # UniLab leaves them out, too
    parameters = quadruped.QuadrupedParameters(action_scale=0.25)
    return quadruped.describe("unitree_go2", spec.compile(), parameters)


def go2_in_own_scene(robot: str) -> quadruped.Quadruped:
    """Load the scene of this project with UniLab's position gain: its own is too stiff for steps of 10 ms."""
    found = loading.load_quadruped(robot)
    found.model.actuator_gainprm[:, 0], found.model.actuator_biasprm[:, 1] = 35.0, -35.0
    return found


if __name__ == "__main__":
    options.register()
    cheetah, ant = partial(gym_training, "gym/half_cheetah"), partial(gym_training, "gym/ant")
    serve(
        {f"step {task}": partial(stepping, task) for task in ("HalfCheetah-v5", "Ant-v5", "Humanoid-v5")}
        | {
            "train HalfCheetah-v5 [64, 64]": partial(cheetah, *PPO),
            "train HalfCheetah-v5 [512, 256, 128]": partial(cheetah, *PPO, hidden="[512,256,128]"),
            "train HalfCheetah-v5 [512, 256, 128] bfloat16": partial(
                cheetah, *PPO, "policy.precision=bfloat16", hidden="[512,256,128]"
            ),
            "train HalfCheetah-v5 as sb3": partial(cheetah, *AS_SB3, threads=1),
            "train Ant-v5 [64, 64]": partial(ant, *PPO),
            "train Go2 in own scene": partial(go2_training, go2_in_own_scene),
            "train Go2 in UniLab's scene": partial(go2_training, go2_in_unilabs_scene),
        }
    )
