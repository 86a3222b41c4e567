"""Times the training loops of peers that use torch, with the number of threads that suits them."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from peers.serving import Measure, steps_per_s


def training(iterate: Callable[[], int], *, trials: int) -> Measure:
    """Return how to time `iterate`, which returns the control steps it trained on.

    Torch gets one thread or all that are allowed, whichever made the fastest of `trials` iterations: small
    networks and minibatches lose by a second thread, large ones gain.
    """
    iterate()
    fastest_s = dict.fromkeys((1, torch.get_num_threads()), float("inf"))
    for _ in range(trials):
        for threads in fastest_s:
            torch.set_num_threads(threads)
            begin_s = time.perf_counter()
            iterate()
            fastest_s[threads] = min(fastest_s[threads], time.perf_counter() - begin_s)
    chosen = min(fastest_s, key=fastest_s.__getitem__)

    def measure(seconds: float) -> dict[str, float]:
        torch.set_num_threads(chosen)
        return {"steps_per_s": steps_per_s(iterate, seconds), "torch_threads": chosen}

    return measure
