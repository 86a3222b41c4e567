"""The peer's side of the conversation: it measures on request, and waits on its standard input in between.

A request is a line of JSON, {"case": ..., "seconds": ...}; the answer is a line with the figures, on the file
descriptor that the environment variable names, since libraries print what they like on standard output.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping

ANSWERS = "PEER_ANSWERS_FD"
"""Environment variable with the number of the descriptor for answers."""

Measure = Callable[[float], dict[str, float]]
"""Measures for so many seconds, and for one unit of work at least; returns figures by name."""


def serve(cases: Mapping[str, Callable[[], Measure]]) -> None:
    """Answer requests until there are no more; a case is built and warmed up when it is first asked for."""
    built: dict[str, Measure] = {}
    with os.fdopen(int(os.environ[ANSWERS]), "w") as answers:
        for line in sys.stdin:
            request = json.loads(line)
            case = request["case"]
            if case not in built:
                built[case] = cases[case]()
            print(json.dumps(built[case](request["seconds"])), file=answers, flush=True)


def steps_per_s(work: Callable[[], int], seconds: float) -> float:
    """Repeat `work`, which returns the control steps it made, for `seconds`.

    Return control steps a second.
    """
    steps, begin_s, taken_s = 0, time.perf_counter(), 0.0
    while taken_s < seconds or not steps:
        steps += work()
        taken_s = time.perf_counter() - begin_s
    return steps / taken_s
