"""Settings of the traffic task."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from factory.envs.core.task import TaskConfig, TaskFacts
from factory.validation import require

MAP_SETS = ("train", "validation", "test", "topology")
"""Sets of maps; no map is in two of them."""
OWN_FEATURES = 20
"""Numbers that a car observes of itself and its route."""
NEIGHBOUR_FEATURES = 16
"""Numbers that a car observes of another one."""
_MOST_CARS = 16
_MOST_MAPS = 4096


@dataclass(kw_only=True)
class TrafficRewards:
    """Weights of the reward terms."""

    progress: float = 0.04
    """A metre along the route."""
    goal: float = 1.0
    """The end of the route, once."""
    collision: float = 3.0
    """A collision; a car that is hit from behind is not to blame."""
    off_road: float = 2.0
    """A lane that is left, once."""
    closeness: float = 0.1
    """A second in which another car would be hit within 2 s at constant speeds, times its imminence."""
    deviation: float = 0.01
    """A squared metre off the middle of the lane, every step."""
    effort: float = 0.005
    """Squared actions, every step."""


@dataclass(kw_only=True)
class TrafficConfig(TaskConfig):
    """Drive a route through a junction among other cars, without touching any."""

    env: ClassVar[str] = "factory.envs.tasks.traffic.env:Traffic"
    engines: ClassVar[tuple[str, ...]] = ("none",)
    facts: ClassVar[TaskFacts | None] = TaskFacts(
        observations={"policy": OWN_FEATURES + 7 * NEIGHBOUR_FEATURES}, actions="2", control_hz=10.0
    )
    eval_worlds: ClassVar[int] = 1024
    video_worlds: ClassVar[int] = 6
    baselines: ClassVar[dict[str, str]] = {
        "pursuit": "factory.envs.tasks.traffic.baselines:Pursuit",
        "pursuit_yield": "factory.envs.tasks.traffic.baselines:PursuitYield",
        "idm": "factory.envs.tasks.traffic.baselines:Idm",
    }
    name: str = "traffic"
    id: str = "factory/Traffic-v0"
    max_episode_steps: int = 400
    agents_per_world: int = 8
    """Cars of a scene."""
    maps: str = "train"
    """Set of maps: train, validation, test or topology (kinds of junctions that no other set has)."""
    num_maps: int = 256
    """Number of maps."""
    rule_drivers: int = 0
    """Cars of a scene that rules drive (IDM, yielding, pure pursuit); their rows learn nothing."""
    neighbours: int = 7
    """Other cars that a car observes, the nearest ones within 45 m."""
    rewards: TrafficRewards = field(default_factory=TrafficRewards)
    """Weights of the reward terms."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        super().__post_init__()
        cars = self.agents_per_world
        self._require_default_robot()
        require(self.maps in MAP_SETS, "task.maps", self.maps, f"choose one of {', '.join(MAP_SETS)}")
        for key, low, high in (
            ("agents_per_world", 1, _MOST_CARS),
            ("num_maps", 1, _MOST_MAPS),
            ("neighbours", 1, _MOST_CARS - 1),
            ("rule_drivers", 0, cars - 1),
        ):
            value = getattr(self, key)
            require(low <= value <= high, f"task.{key}", value, f"must be in [{low}, {high}]")

    def eval_kwargs(self) -> dict[str, Any]:
        """Return the keywords for evaluations and videos, on the test maps where training has its own."""
        values = self.env_kwargs()
        if self.maps == "train":
            values |= {"maps": "test", "num_maps": 64}
        return values
