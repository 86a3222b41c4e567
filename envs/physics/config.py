"""Settings of the physics engine."""

from __future__ import annotations

from dataclasses import dataclass, replace

from factory.validation import MOST_THREADS, require

ENGINES = ("mujoco", "warp")
"""Names of the engines."""


@dataclass(kw_only=True)
class PhysicsConfig:
    """The physics engine and its settings."""

    name: str = "mujoco"
    """Engine: mujoco (CPU), warp (GPU, or a CPU for tests)."""
    num_threads: int = 0
    """Physics threads of the CPU engine; 0 takes every CPU this process may use."""
    nconmax: int = 0
    """Contacts a world that warp has room for; 0 finds out how many the robot needs."""
    njmax: int = 0
    """Constraint rows a world that warp has room for; 0 finds out how many the robot needs."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range or means nothing to the engine."""
        require(
            self.name in ENGINES, "physics", self.name, f"unknown engine; choose one of {', '.join(ENGINES)}"
        )
        require(
            0 <= self.num_threads <= MOST_THREADS,
            "physics.num_threads",
            self.num_threads,
            f"must be in [0, {MOST_THREADS}]; 0 is automatic",
        )
        for key in ("nconmax", "njmax"):
            value = getattr(self, key)
            require(value >= 0, f"physics.{key}", value, "must be 0 (automatic) or more")
            require(
                not value or self.name == "warp",
                f"physics.{key}",
                value,
                "only physics=warp has it; leave it out",
            )
        threads_mean_something = not self.num_threads or self.name == "mujoco"
        require(threads_mean_something, "physics.num_threads", self.num_threads, "only physics=mujoco has it")

    @classmethod
    def of(cls, physics: str | PhysicsConfig, *, num_threads: int = 0) -> PhysicsConfig:
        """Return the settings of an engine given by name, or settings that leave open how many threads."""
        if isinstance(physics, str):
            return cls(name=physics, num_threads=num_threads)
        left_open = physics.name == "mujoco" and not physics.num_threads
        if left_open:
            return replace(physics, num_threads=num_threads)
        return physics
