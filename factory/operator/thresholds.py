"""Thresholds of the detectors. Every detector needs a statistical condition and one of practical size."""

from __future__ import annotations

from dataclasses import dataclass

from factory.validation import require


@dataclass(kw_only=True)
class Thresholds:
    """Settings below `operator.detect`. Times are in seconds."""

    hang_s: float = 60.0
    """Shortest silence that is a hang."""
    hang_factor: float = 5.0
    """Silence, in 99 % quantiles of the iteration time, that is a hang."""
    start_s: float = 300.0
    """Longest time from the start of an attempt to its first iteration."""
    idle_cores: float = 0.05
    """CPU use below which a silent line hangs; above, it crawls."""
    crawl_share: float = 0.3
    """Share of its usual speed below which a line crawls."""
    crawl_sd: float = 5.0
    """The same for five iterations in a row, in standard deviations of the logarithm of their time."""
    baseline_rows: int = 20
    """Least number of iterations that tell the usual speed."""
    slow_rows: int = 20
    """Iterations that have to be slow."""
    slow_factor: float = 1.2
    """Increase of the iteration time that matters."""
    cusum_sd: float = 8.0
    """Cumulative sum of the logarithm of the iteration time, in standard deviations, that is no chance."""
    least_spread: float = 0.05
    """Least relative spread of iteration times that is believed."""
    leak_r2: float = 0.9
    """Share of the variance of memory over time that a straight line has to explain."""
    leak_window_s: float = 30.0
    """Least time over which memory has to grow."""
    leak_horizon_s: float = 3600.0
    """A leak matters that would fill the memory within this time."""
    memory_reserve: float = 0.05
    """Share of the memory that has to be free."""
    memory_reserve_bytes: float = 1e9
    """Memory that has to be free, where that is less."""
    stall_some: float = 0.2
    """Share of ten seconds in which some process waits for memory, above which memory is short."""
    stall_full: float = 0.05
    """The same for all processes at once: then no work is done."""
    kl: float = 1.0
    """Divergence between two policies in a row, in nat, that no healthy update has."""
    kl_factor: float = 10.0
    """The same, in medians of the run."""
    bad_rows: int = 3
    """Iterations with values that are not finite, among the last ten, that are no chance."""
    collapse_share: float = 0.5
    """Share of the improvement whose loss matters."""
    collapse_sd: float = 4.0
    """The same, in standard deviations of the noise of returns."""
    plateau_rows: int = 200
    """Iterations without an upward trend that are a plateau."""
    plateau_share: float = 0.02
    """Change over the plateau, as a share of the improvement, that does not matter."""
    early_share: float = 0.1
    """Share of the environment steps left from which an early end is worth something."""
    budget_s: float = 3.0
    """Time above the budget that is no spike."""
    budget_share: float = 0.02
    """Excess over the budget that matters."""
    stale_s: float = 5.0
    """Age at which a reading of the meter is stale."""
    disk_share: float = 0.05
    """Share of the disk that has to be free."""
    disk_bytes: float = 5e9
    """Free space, where that is less, that has to be there."""
    outbox_s: float = 60.0
    """Time for which the outbox of the tracker has to grow."""
    outbox_bytes: float = 16384.0
    """Size of the outbox that matters."""
    clock_s: float = 2.0
    """Step of the wall clock that matters."""
    clock_ticks: float = 2.0
    """The same, in ticks."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        for name, value in vars(self).items():
            require(value >= 0, f"operator.detect.{name}", value, "must be >= 0")
        for name in ("baseline_rows", "slow_rows", "bad_rows"):
            require(getattr(self, name) >= 1, f"operator.detect.{name}", getattr(self, name), "must be >= 1")
