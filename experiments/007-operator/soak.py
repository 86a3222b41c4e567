"""Run two lines for half an hour under the rule, with seven faults one after another on one floor."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from factory.operator.scoring import floor_process, live, measure  # noqa: E402
from factory.operator.scoring.cases import BY_NAME  # noqa: E402
from factory.operator.scoring.injections import INJECTIONS  # noqa: E402
from factory.operator.scoring.scene import Scene  # noqa: E402
from factory.runtime import hardware, provenance  # noqa: E402

FAULTS = ("crash", "hang", "fail_slow", "memory", "bad_checkpoint", "clock", "floor_died")


def main() -> None:
    """Inject, wait, clear up, and write one row for each fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--decider", default="rule")
    parser.add_argument("--out", type=Path, default=HERE / "soak.json")
    args = parser.parse_args()
    quiet_s = 60.0 * args.minutes / (len(FAULTS) + 1)
    case = replace(BY_NAME["crash"], name="soak", num_lines=2, settings=("checkpoint_every=100",))
    outcomes: list[measure.Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder), case, overrides=[f"operator.decider={args.decider}"], seed=0)
        try:
            scene.open()
            scene.wait_until_usual()
            first_s = time.monotonic()
            for name in FAULTS:
                time.sleep(quiet_s / 2.0)
                injected_s = time.monotonic()
                INJECTIONS[name].harm(scene)
                time.sleep(quiet_s / 2.0)
                outcomes.append(_judge(scene, name, args.decider, injected_s))
                print(json.dumps(outcomes[-1].to_plain()), flush=True)
                _clear_up(scene)
            time.sleep(max(0.0, first_s + 60.0 * args.minutes - time.monotonic()))
            ticks = scene.ticks()
        finally:
            scene.close()
    content = {
        **provenance.git_tags(),
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": hardware.describe(),
        "minutes": (ticks[-1]["t"] - first_s) / 60.0,
        "alarms": measure.alarm_ids([tick for tick in ticks if tick["t"] >= first_s]),
        "cost": ticks[-1]["cost"],
        "faults": [outcome.to_plain() for outcome in outcomes],
    }
    args.out.write_text(json.dumps(content, indent=1) + "\n")


def _judge(scene: Scene, name: str, decider: str, injected_s: float) -> measure.Outcome:
    return live.judge(BY_NAME[name], scene.ticks(), decider=decider, seed=0, injected_s=injected_s)


def _clear_up(scene: Scene) -> None:
    """Take away what the fault has left."""
    scene.end_helpers()
    for file in (scene.home(scene.target) / "sickness", scene.folder / floor_process.CLOCK):
        with contextlib.suppress(FileNotFoundError):
            file.unlink()


if __name__ == "__main__":
    main()
