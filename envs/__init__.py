"""Simulated environments. Importing this registers every task, and imports neither physics nor torch."""

from __future__ import annotations

from factory.envs.adapters.gymnasium_config import GymnasiumConfig
from factory.envs.tasks.amr.config import AmrNavigateConfig
from factory.envs.tasks.amr.dock_config import AmrDockConfig
from factory.envs.tasks.amr.fleet_config import AmrFleetConfig
from factory.envs.tasks.cars.park_config import CarParkConfig
from factory.envs.tasks.cars.track_config import CarTrackConfig
from factory.envs.tasks.cartpole_config import CartpoleSwingupConfig
from factory.envs.tasks.drones.config import DroneGatesConfig, DroneWaypointsConfig
from factory.envs.tasks.gym_mujoco.config import GYM_TASKS
from factory.envs.tasks.quadruped_config import QuadrupedVelocityConfig
from factory.envs.tasks.traffic.config import TrafficConfig
from factory.registry import register_task

register_task(CartpoleSwingupConfig)
for _config in GYM_TASKS:
    register_task(_config)
register_task(QuadrupedVelocityConfig)
register_task(CarTrackConfig)
register_task(CarParkConfig)
register_task(AmrNavigateConfig)
register_task(AmrDockConfig)
register_task(AmrFleetConfig)
register_task(TrafficConfig)
register_task(DroneWaypointsConfig)
register_task(DroneGatesConfig)
register_task(GymnasiumConfig)
