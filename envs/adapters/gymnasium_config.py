"""Settings of the task `gymnasium`: any environment of Gymnasium's registry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from factory.envs.core.task import TaskConfig
from factory.validation import require

VECTORIZATIONS = ("auto", "sync", "async", "vector_entry_point")


@dataclass(kw_only=True)
class GymnasiumConfig(TaskConfig):
    """Learn an environment that this project does not know, by its Gymnasium id."""

    env: ClassVar[str] = "factory.envs.adapters.gymnasium_env:GymnasiumEnv"
    name: str = "gymnasium"
    id: str = "factory/Gymnasium-v0"
    eval_episodes: ClassVar[int] = 100
    eval_worlds: ClassVar[int] = 25
    example: ClassVar[tuple[str, ...]] = ("env_id=CartPole-v1",)
    max_episode_steps: int = 0
    """Control steps after which an episode is truncated; 0 takes the environment's own limit, or 1000."""
    step_timeout_s: float = 600.0
    """As in every task [s]. Environments of others may wait for ever for a server, a lock or a device."""
    env_id: str = ""
    """Gymnasium id, `module:Id-v0` for one whose module has to be imported first; give it as `env_id=...`."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Keywords of the environment's constructor, as in `task.kwargs={g:9.81}`."""
    wrappers: list[str] = field(default_factory=list)
    """Wrappers of every single environment as `module:Wrapper`, the innermost first, as in
    `task.wrappers=[minigrid.wrappers:ImgObsWrapper]`; a function that returns an environment works, too."""
    vectorization: str = "auto"
    """sync (all environments in turn in this process), async (each in a process of its own: for environments
    that take longer than about 0.5 ms a step), vector_entry_point (the environment's own batched version), or
    auto: the batched version if there is one that fits, else sync."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        require(
            bool(self.env_id), "env_id", self.env_id, "task=gymnasium needs one, such as env_id=CartPole-v1"
        )
        require(
            self.robot == "default",
            "robot",
            self.robot,
            "an environment of Gymnasium has its own; leave it out",
        )
        require(
            self.max_episode_steps >= 0,
            "task.max_episode_steps",
            self.max_episode_steps,
            "must not be negative",
        )
        # Not `super().__post_init__()`: a time limit of 0 means the environment's own here.
        self._check_step_timeout()
        for reference in self.wrappers:
            module, _, wrapper = reference.partition(":")
            require(
                bool(module and wrapper),
                "task.wrappers",
                reference,
                "give module:Wrapper, such as gymnasium.wrappers:FlattenObservation",
            )
        require(
            self.vectorization in VECTORIZATIONS,
            "task.vectorization",
            self.vectorization,
            f"choose one of {', '.join(VECTORIZATIONS)}",
        )

    def env_kwargs(self) -> dict[str, Any]:
        """Return the keywords the environment's constructor takes."""
        values = super().env_kwargs()
        del values["robot"]
        values["step_timeout_s"] = self.step_timeout_s
        # `gymnasium.make_vec` has a parameter `wrappers` of its own, and refuses it for batched environments.
        values["wrapper_names"] = values.pop("wrappers")
        return values
