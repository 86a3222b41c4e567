"""Lines of a floor for tests that need no training."""

from __future__ import annotations

from dataclasses import replace

from factory.floor.lines import Line, Needs


def make_line(**changes: object) -> Line:
    """Return a line that was never queued."""
    line = Line(
        id=0,
        name="cartpole seed=0",
        task="cartpole_swingup",
        overrides=("task=cartpole_swingup", "seed=0"),
        spec_hash="a" * 64,
        total_steps=1000,
        needs=Needs(cores=1.0, memory_bytes=1 << 30),
        run_dir="/floor/lines/{id}/run",
        reason="waits",
    )
    return replace(line, **changes)  # type: ignore[arg-type]
