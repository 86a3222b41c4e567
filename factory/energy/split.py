"""Split of a window's time and joules among its phases."""

from __future__ import annotations

from collections.abc import Sequence

_SYNCED_EVERY = 8
"""One window in this many drains the GPU at every boundary, which slows the run a little."""
_FAR = 2.0
"""Ratio of the window's length to the expected one beyond which the expectation is not used."""


class WindowSplit:
    """Shares by time; in windows without synchronisation, by the time of a synchronised visit.

    Between two synchronisations the host runs ahead of the GPU, and its clock shows when work was launched,
    not when it ran. So every eighth window is synchronised at each boundary, which measures the duration of a
    visit of each slot, and the windows between are split by visits times that duration.
    """

    def __init__(self, num_slots: int) -> None:
        self._per_visit_ns: list[float | None] = [None] * num_slots
        self._num_windows = 0

    def shares(self, window_ns: Sequence[int], visits: Sequence[int], *, is_synced: bool) -> list[float]:
        """Return the share of each slot in the window; they sum to 1.

        Args:
            window_ns: Host time in each slot [ns]. Shape: (num_slots,)
            visits: How often each slot was entered. Shape: (num_slots,)
            is_synced: Whether the GPU was drained at every boundary of the window.
        """
        self._num_windows += 1
        weights: list[float] = list(window_ns)
        if is_synced:
            self._learn(window_ns, visits)
        else:
            expected = self._expected_ns(window_ns, visits)
            # A window far from what was learnt (a compilation, say) is split by the host's clock.
            if sum(window_ns) < _FAR * sum(expected) < _FAR * _FAR * sum(window_ns):
                weights = expected
        # share_k = w_k / sum w. An empty window goes to the last slot, the unattributed rest.
        total = sum(weights)
        if total <= 0.0:
            return [0.0] * (len(weights) - 1) + [1.0]
        return [weight / total for weight in weights]

    def _learn(self, window_ns: Sequence[int], visits: Sequence[int]) -> None:
        # Mean time of a visit in this window; the latest window replaces older ones, as speed may drift.
        for slot, count in enumerate(visits):
            if count:
                self._per_visit_ns[slot] = window_ns[slot] / count

    def _expected_ns(self, window_ns: Sequence[int], visits: Sequence[int]) -> list[float]:
        # w_k = n_k * t_k; a slot that has never been seen synchronised keeps its host time.
        return [
            host_ns if typical_ns is None else count * typical_ns
            for host_ns, count, typical_ns in zip(window_ns, visits, self._per_visit_ns, strict=True)
        ]

    def is_next_synced(self) -> bool:
        """Tell whether the window about to open is one to learn from."""
        return self._num_windows % _SYNCED_EVERY == 0
