"""The `profile` config group: an intent, its promise, and the settings that shall keep it."""

from __future__ import annotations

from dataclasses import dataclass

from factory.validation import require

DEFAULT = "default"
"""Name of the profile that changes nothing."""
_LEAST_SHARE = 0.2
"""Boards refuse less, and nobody wants it."""
_MOST_SPINS = 1_000_000_000
_LAST_PROFILE_ID = 254


@dataclass(kw_only=True)
class ProfileConfig:
    """A power profile.

    No setting here changes what is learned: worlds, seeds, weights and threads of torch stay the same.
    """

    name: str = DEFAULT
    """Name of the profile."""
    intent: str = "Change nothing."
    """Purpose, as a sentence."""
    promise: str = ""
    """Constraint that a calibration checks, as a phrase; empty if there is none."""
    min_speed: float = 0.0
    """Promised tokens/s as a share of those of max_performance; 0 promises none."""

    # On a GPU (`device=cuda`): the first of these that the board has and this process may set.

    workload_profile: int = -1
    """Id of NVIDIA's workload power profile (NVML_POWER_PROFILE_*); -1 asks for none."""
    clock_share: float = 1.0
    """Highest clock of the GPU as a share of its maximum; 1 leaves it alone."""
    power_share: float = 1.0
    """Power limit of the GPU as a share of its default; 1 leaves it alone."""

    # In this process, all of these.

    cores: int = 0
    """CPUs that the process may use; 0 leaves it all it has."""
    one_per_core: bool = False
    """Use one hardware thread of every physical core."""
    spin: int = -1
    """Rounds that an OpenMP thread spins before it sleeps (GOMP_SPINCOUNT); -1 leaves it alone."""
    nice: int = 0
    """Niceness of the process; 19 runs only when nobody else wants to."""
    watts: float = 0.0
    """Highest mean power of training [W], as metered; 0 sets no limit."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        require(0.0 <= self.min_speed <= 1.0, "profile.min_speed", self.min_speed, "must be in [0, 1]")
        profile = self.workload_profile
        is_id = -1 <= profile <= _LAST_PROFILE_ID
        require(
            is_id, "profile.workload_profile", profile, f"must be in [-1, {_LAST_PROFILE_ID}]; -1 is none"
        )
        for key in ("clock_share", "power_share"):
            share = getattr(self, key)
            in_range = _LEAST_SHARE <= share <= 1.0
            require(in_range, f"profile.{key}", share, f"must be in [{_LEAST_SHARE:g}, 1]; 1 changes nothing")
        require(self.cores >= 0, "profile.cores", self.cores, "must be 0 (all) or more")
        is_count = -1 <= self.spin <= _MOST_SPINS
        require(is_count, "profile.spin", self.spin, f"must be in [-1, {_MOST_SPINS}]; -1 changes nothing")
        # Less than 0 needs root, and takes the machine from others.
        require(0 <= self.nice <= 19, "profile.nice", self.nice, "must be in [0, 19]")
        require(self.watts >= 0.0, "profile.watts", self.watts, "must be 0 (no limit) or more")
        has_limit = self.name != "capped" or self.watts > 0.0
        require(has_limit, "profile.watts", self.watts, "profile=capped needs a limit; add profile.watts=<W>")
