"""Train two lines on a factory floor with one GPU: they take turns, and each pays for the board."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]


def floor(scale: Any, cells: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run two short trainings of cart-pole on a floor of this machine, and read its books."""
    size = 16 if scale.quick else 4096
    settings = (
        "task=cartpole_swingup",
        f"device={scale.device}",
        f"physics={scale.physics}",
        f"num_envs={size}",
        f"total_steps={size * (64 if scale.quick else 1920)}",
        "runtime.eval_episodes=2",
        "runtime.video_s=0",
        "runtime.register_model=false",
        "tracking=jsonl",
    )
    for cell in cells:
        with tempfile.TemporaryDirectory() as root:
            for seed in (0, 1):
                _call(root, "submit", *settings, f"seed={seed}", "--cores", "0.5")
            status = _call(root, "run").returncode
            state = json.loads(_call(root, "status", "--json").stdout)
            found: dict[str, Any] = {"exit_status": status, "floor": state["floor"], "lines": []}
            for line in state["lines"]:
                attempt = Path(root, "lines", str(line["id"]), str(line["attempts"]))
                started = json.loads((attempt / "started.json").read_text())
                outcome = json.loads((attempt / "exit.json").read_text())
                found["lines"].append(
                    {
                        "state": line["state"],
                        "joules": line["joules"],
                        "devices": started["devices"],
                        "from_s": outcome["started_at"],
                        "to_s": outcome["ended_at"],
                    }
                )
        yield cell, found


def _call(root: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "factory.floor", *arguments, "--root", root]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT)
    print(done.stdout[-2000:], done.stderr[-2000:])
    return done


def words(found: dict[str, Any]) -> Iterator[str]:
    """Describe the result."""
    lines = found["lines"]
    yield f"exit status {found['exit_status']}"
    for line in lines:
        yield f"{line['state']} on {line['devices'] or 'no GPU'}, {line['joules']:.3g} J"
    takes_turns = len(lines) == 2 and lines[0]["to_s"] <= lines[1]["from_s"]
    yield "one after the other" if takes_turns else "at the same time"
    node = found["floor"]
    yield f"rest {node['unattributed_j']:.3g} of {node['joules']:.3g} J ({node['tier']})"
