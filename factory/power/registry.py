"""The table of actuators. Its order is that in which a profile tries them."""

from __future__ import annotations

from factory.power.board import BoardActuator, LockedClocks, PowerLimit, WorkloadProfile
from factory.power.process import Cores, Niceness, Spinning

PROCESS = (Cores, Niceness, Spinning)
"""Settings of a process: a profile uses all that it asks for."""
BOARD: dict[str, type[BoardActuator]] = {
    actuator.name: actuator for actuator in (WorkloadProfile, LockedClocks, PowerLimit)
}
"""Settings of a GPU board: a profile uses the first that it asks for and the board accepts."""
