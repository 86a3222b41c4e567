"""Settings that every task has."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from factory.validation import require


@dataclass(frozen=True, kw_only=True)
class TaskFacts:
    """Facts about the environment of a task with its default settings, known without building it."""

    robots: str = "default"
    """Values of `robot=`."""
    observations: dict[str, int]
    """Features of every observation group."""
    actions: str
    """Size of an action, or the choices there are."""
    control_hz: float
    """Control steps per second of simulated time [Hz]."""


@dataclass(kw_only=True)
class TaskConfig:
    """Settings shared by all tasks; a subclass adds its own and is passed to `register_task`."""

    env: ClassVar[str] = ""
    """Class of the environment, as `module:Class`; imported when the first environment is made."""
    facts: ClassVar[TaskFacts | None] = None
    """Facts for the list of tasks; without them the list builds an environment."""
    engines: ClassVar[tuple[str, ...]] = ("mujoco", "warp")
    """Engines that simulate the task, its default first; `("none",)` if torch alone does."""
    eval_episodes: ClassVar[int] = 256
    """Episodes of an evaluation, unless `runtime.eval_episodes` says otherwise."""
    eval_worlds: ClassVar[int] = 256
    """Most environments of an evaluation; the same for every run, so that all play the same episodes."""
    video_worlds: ClassVar[int] = 1
    """Worlds that a video shows side by side."""
    baselines: ClassVar[dict[str, str]] = {}
    """Controllers that are not learned, by name: `module:Class`, see `factory.baselines`."""
    example: ClassVar[tuple[str, ...]] = ()
    """Overrides that complete `task=<name>`, for tasks that lack something without them."""
    name: str = ""
    """Name of the task, as in `task=<name>`; also that of run folders, MLflow experiments and models."""
    id: str = ""
    """Gymnasium id of the environment, `<namespace>/<Name>-v<number>`."""
    robot: str = "default"
    """`default`, `menagerie:<name>`, `file:<path.xml>` or a registered name, as far as the task takes it."""
    max_episode_steps: int = 1000
    """Control steps after which an episode is truncated [control steps]."""
    step_timeout_s: float = 0.0
    """Longest time that a step of all worlds may take before the run ends as hung [s]; 0 sets no limit. Own
    tasks have none, since their engines always return."""
    return_threshold: float | None = None
    """Mean training return at which the task counts as learned, for energy and time to threshold."""

    def __post_init__(self) -> None:
        """Accept groups of settings as plain mappings; raise ValueError when a value is out of its range."""
        # `env_kwargs` turns groups into mappings, and the environment builds its settings from them again.
        for entry in dataclasses.fields(self):
            value = getattr(self, entry.name)
            group = entry.default_factory
            if isinstance(value, dict) and dataclasses.is_dataclass(group):
                setattr(self, entry.name, group(**value))
        steps = self.max_episode_steps
        require(steps >= 1, "task.max_episode_steps", steps, "must be at least 1")
        self._check_step_timeout()

    def _check_step_timeout(self) -> None:
        timeout_s = self.step_timeout_s
        require(timeout_s >= 0, "task.step_timeout_s", timeout_s, "must not be negative; 0 sets no limit")

    def _require_default_robot(self) -> None:
        """Raise ValueError if a task with a single robot or vehicle is asked for another one."""
        remedy = f"{self.name} has one of its own; use robot=default"
        require(self.robot == "default", "robot", self.robot, remedy)

    @property
    def agents_per_world(self) -> int:
        """Rows of a batch that share a world; a task of several agents has a field of this name."""
        return 1

    def check_num_envs(self, num_envs: int) -> None:
        """Raise ValueError unless `num_envs` rows are whole worlds."""
        agents = self.agents_per_world
        remedy = f"must be a multiple of task.agents_per_world={agents}, as each agent is a row"
        require(num_envs % agents == 0, "num_envs", num_envs, remedy)

    def whole_worlds(self, num_envs: int) -> int:
        """Return the largest number of rows up to `num_envs` that are whole worlds, at least one world."""
        agents = self.agents_per_world
        return max(1, num_envs // agents) * agents

    def env_kwargs(self) -> dict[str, Any]:
        """Return the keywords the environment's constructor takes."""
        values = dataclasses.asdict(self)
        # These describe the task to users and to the training loop; the environment has no use for them.
        for key in ("name", "id", "step_timeout_s", "return_threshold"):
            del values[key]
        return values

    def eval_kwargs(self) -> dict[str, Any]:
        """Return these keywords for evaluations and videos: of held-out worlds, where a task has them."""
        return self.env_kwargs()
