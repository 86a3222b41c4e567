"""The interface of learners."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection

from torch import Tensor

from factory.learners.rollout import Rollout

COUNTS = ("discarded", "skipped", "gradient_steps", "processed")
"""Names in the result of `Learner.update` that are counts; every other name is logged as `loss/<name>`."""


class Learner(ABC):
    """Turns rollouts into better parameters of a policy."""

    @abstractmethod
    def update(self, rollout: Rollout, *, progress: float) -> dict[str, Tensor]:
        """Improve the policy on one rollout.

        Nothing may be read from the device: the loop reads the result once, together with everything else.

        Args:
            rollout: steps collected with the policy as it is now; its tensors are overwritten by the next
                one.
            progress: share of the run that is done, for schedules that change over it, in [0, 1].

        Returns:
            Scalars on the device. `discarded` counts samples that were not learned from because their numbers
            were unsound, `gradient_steps` the gradient steps, `skipped` those that were left out because they
            were not finite, `processed` samples that went through a gradient step; all may be missing. Every
            other one is logged as `loss/<name>`.
        """

    def cut_step_size(self) -> None:  # noqa: B027
        """Make the next steps smaller: the last update was undone because its result was not finite.

        Nothing by default.
        """

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of everything later updates depend on, apart from the policy.

        No tensor by default.
        """
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:  # noqa: B027
        """Restore `state_dict()`.

        Raises:
            RuntimeError: the state does not fit.
        """

    def take_changes(self, changed: Collection[str]) -> None:  # noqa: B027
        """Put changed settings into effect where `load_state_dict` has restored what the old ones led to.

        Args:
            changed: fields of the learner's config in which a resumed run differs from its checkpoint.
        """
