"""Simulated worlds: gymnasium registration of every task. Importing this imports no physics."""

from __future__ import annotations

import gymnasium

TASKS: dict[str, str] = {
    "factory/CartpoleSwingup-v0": "factory.envs.tasks.cartpole:CartpoleSwingup",
    "factory/Ant-v5": "factory.envs.tasks.gym_mujoco.runners:Ant",
    "factory/HalfCheetah-v5": "factory.envs.tasks.gym_mujoco.runners:HalfCheetah",
    "factory/Hopper-v5": "factory.envs.tasks.gym_mujoco.runners:Hopper",
    "factory/Humanoid-v5": "factory.envs.tasks.gym_mujoco.humanoids:Humanoid",
    "factory/HumanoidStandup-v5": "factory.envs.tasks.gym_mujoco.humanoids:HumanoidStandup",
    "factory/InvertedDoublePendulum-v5": "factory.envs.tasks.gym_mujoco.pendulums:InvertedDoublePendulum",
    "factory/InvertedPendulum-v5": "factory.envs.tasks.gym_mujoco.pendulums:InvertedPendulum",
    "factory/Pusher-v5": "factory.envs.tasks.gym_mujoco.arms:Pusher",
    "factory/Reacher-v5": "factory.envs.tasks.gym_mujoco.arms:Reacher",
    "factory/Swimmer-v5": "factory.envs.tasks.gym_mujoco.runners:Swimmer",
    "factory/Walker2d-v5": "factory.envs.tasks.gym_mujoco.runners:Walker2d",
    "factory/QuadrupedVelocity-v0": "factory.envs.tasks.quadruped_velocity:QuadrupedVelocity",
}
"""Id -> where its `BatchEnv` subclass is; beside it, `make_<its name>` builds the single-world version."""


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


for _id, _class in TASKS.items():
    if _id not in gymnasium.registry:
        _module, _, _name = _class.partition(":")
        gymnasium.register(id=_id, entry_point=f"{_module}:make_{_snake(_name)}", vector_entry_point=_class)

if "factory/Gymnasium-v0" not in gymnasium.registry:
    gymnasium.register(
        id="factory/Gymnasium-v0", vector_entry_point="factory.envs.adapters.gymnasium_env:GymnasiumEnv"
    )
