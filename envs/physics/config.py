"""Settings of the physics engine."""

from __future__ import annotations

from dataclasses import dataclass, replace

from factory.validation import MOST_THREADS, require

ENGINES = ("mujoco", "warp")
"""Names of the engines."""
NONE = "none"
"""Stands for no engine: torch alone simulates the task."""
AUTO = "auto"
"""Stands for the first engine that a task names."""


@dataclass(kw_only=True)
class PhysicsConfig:
    """The physics engine and its settings."""

    name: str = AUTO
    """Engine: mujoco (CPU), warp (GPU, or a CPU for tests), none (torch alone), or auto: as the task says."""
    num_threads: int = 0
    """Physics threads of the CPU engine; 0 takes every CPU this process may use."""
    nconmax: int = 0
    """Contacts a world that warp has room for; 0 finds out how many the robot needs."""
    njmax: int = 0
    """Constraint rows a world that warp has room for; 0 finds out how many the robot needs."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range or means nothing to the engine."""
        names = sorted((AUTO, NONE, *ENGINES))
        require(self.name in names, "physics", self.name, f"unknown engine; choose one of {', '.join(names)}")
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
        threads_mean_something = not self.num_threads or self.name in (AUTO, "mujoco")
        require(threads_mean_something, "physics.num_threads", self.num_threads, "only physics=mujoco has it")

    @classmethod
    def of(cls, physics: str | PhysicsConfig, *, num_threads: int = 0) -> PhysicsConfig:
        """Return the settings of an engine given by name, or settings that leave open how many threads."""
        if isinstance(physics, str):
            return cls(name=physics, num_threads=num_threads)
        left_open = physics.name in (AUTO, "mujoco") and not physics.num_threads
        if left_open:
            return replace(physics, num_threads=num_threads)
        return physics

    def one_of(self, engines: tuple[str, ...]) -> PhysicsConfig:
        """Return the settings of the engine for a task that runs on `engines`, the first of them its default.

        Raises:
            ValueError: the task does not run on this engine.
        """
        if self.name == AUTO:
            return replace(self, name=engines[0])
        remedy = f"this task runs with {' or '.join(f'physics={name}' for name in engines)}; leave it out"
        if engines == (NONE,):
            remedy = "torch alone simulates this task; leave it out, or use physics=none"
        require(self.name in engines, "physics", self.name, remedy)
        return self
