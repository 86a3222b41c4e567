"""Simulated worlds: gymnasium registration of every task. Importing this imports no physics."""

from __future__ import annotations

import gymnasium

TASKS: dict[str, tuple[str, str, int]] = {
    "factory/CartpoleSwingup-v0": ("envs.classic", "CartpoleSwingup", 1000),
    "factory/Ant-v5": ("envs.gym_mujoco.runners", "Ant", 1000),
    "factory/HalfCheetah-v5": ("envs.gym_mujoco.runners", "HalfCheetah", 1000),
    "factory/Hopper-v5": ("envs.gym_mujoco.runners", "Hopper", 1000),
    "factory/Humanoid-v5": ("envs.gym_mujoco.humanoids", "Humanoid", 1000),
    "factory/HumanoidStandup-v5": ("envs.gym_mujoco.humanoids", "HumanoidStandup", 1000),
    "factory/InvertedDoublePendulum-v5": ("envs.gym_mujoco.pendulums", "InvertedDoublePendulum", 1000),
    "factory/InvertedPendulum-v5": ("envs.gym_mujoco.pendulums", "InvertedPendulum", 1000),
    "factory/Pusher-v5": ("envs.gym_mujoco.arms", "Pusher", 100),
    "factory/Reacher-v5": ("envs.gym_mujoco.arms", "Reacher", 50),
    "factory/Swimmer-v5": ("envs.gym_mujoco.runners", "Swimmer", 1000),
    "factory/Walker2d-v5": ("envs.gym_mujoco.runners", "Walker2d", 1000),
    "factory/QuadrupedVelocity-v0": ("envs.locomotion", "QuadrupedVelocity", 1000),
}
"""Id -> (module, BatchEnv subclass, control steps of an episode)."""


def _register(env_id: str, module: str, name: str, max_episode_steps: int) -> None:
    gymnasium.register(
        id=env_id,
        entry_point=f"{module}:make_{_snake(name)}",
        vector_entry_point=f"{module}:{name}",
        kwargs={"max_episode_steps": max_episode_steps},
        order_enforce=True,
    )


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


for _id, (_module, _name, _steps) in TASKS.items():
    if _id not in gymnasium.registry:
        _register(_id, _module, _name, _steps)

if "factory/Gymnasium-v0" not in gymnasium.registry:
    gymnasium.register(id="factory/Gymnasium-v0", vector_entry_point="envs.gymnasium_env:GymnasiumEnv")
