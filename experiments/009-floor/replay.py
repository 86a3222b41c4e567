"""A grid event in fast motion: a quarter less power for three hours, beside a floor that is left alone.

python experiments/009-floor/replay.py [--scale 20] [--root DIR]

Two floors run the same four lines, of flex 0 to 3, at the same time. After an hour the budget of one falls to
75 % of its power for three hours, and another hour follows; all of it passes `scale` times faster. Each floor
gets a control group of its own for its CPU time, where the kernel allows that, or each would meter both.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import tempfile
import time
from dataclasses import asdict
from math import inf
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from workshop import FloorUnderTest

from factory.floor.calibration import Prediction, calibrate, plot_data, score
from factory.floor.compliance import Baseline, report_event
from factory.floor.plan import PowerSample

HERE = Path(__file__).parent
LINE = (
    "task=cartpole_swingup",
    "num_envs=64",
    "total_steps=100_000_000",
    "tracking=null",
    "runtime.torch_threads=1",
)
SHARE = 0.75
HOURS = (1.0, 3.0, 1.0)
"""Length of the time before, during and after the event [h]."""
ACTS = ("start", "pause", "resume", "preempt")


def main() -> None:
    """Run both floors through the event and print one JSON object."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--root", type=Path, default=None)
    arguments.add_argument("--scale", type=float, default=20.0, help="times faster than the clock")
    given = arguments.parse_args()
    root = given.root or Path(tempfile.mkdtemp(prefix="replay-"))
    before_s, during_s, after_s = (3600.0 * hours / given.scale for hours in HOURS)

    event = FloorUnderTest(root / "event")
    control = FloorUnderTest(root / "control")
    ids = [number for flex in range(4) for number in event.submit(*LINE, f"seed={flex}", "--flex", str(flex))]
    for flex in range(4):
        control.submit(*LINE, f"seed={flex}", "--flex", str(flex))
    are_apart = [floor.start_apart("--cores", "4") for floor in (event, control)]
    for floor in (event, control):
        for number in ids:
            floor.wait_for(number, "running", timeout_s=600.0)
    began = time.time()
    pass_time(before_s)

    baseline_w = fmean(sample.power_w for sample in samples_of(event, since=time.time() - 30.0))
    limit_w = round(SHARE * baseline_w, 2)
    event.call("budget", "set", str(limit_w), "--for", f"{during_s:.0f}s")
    (text,) = query(event, "SELECT details FROM event WHERE kind = 'budget set'")[0]
    start_s = json.loads(text)["start"]
    end_s = start_s + during_s
    pass_time(end_s + after_s - time.time())
    for floor in (event, control):
        for number in ids:
            floor.call("cancel", str(number))
    statuses = [floor.wait(300.0) for floor in (event, control)]
    results = {"scale": given.scale, "groups_of_their_own": are_apart, "exit_statuses": statuses}
    results |= {"baseline_w": baseline_w, "limit_w": limit_w}
    results |= evaluate(event, control, began, start_s, end_s, until=end_s + after_s)
    (HERE / "replay.json").write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


def evaluate(
    event: FloorUnderTest,
    control: FloorUnderTest,
    began: float,
    start_s: float,
    end_s: float,
    *,
    until: float,
) -> dict[str, Any]:
    """Return the metrics of the event, and draw both floors; times are seconds since 1970."""
    seen = samples_of(event, since=began, until=until)
    undisturbed = samples_of(control, since=began, until=until)
    baselines = (Baseline.control(undisturbed, start_s=start_s), forecast(seen, start_s, until))
    reports = [report_event(seen, start_s=start_s, end_s=end_s, baseline=baseline) for baseline in baselines]
    scores = score(predictions_of(event), seen)
    calibration = calibrate(scores)
    draw(seen, undisturbed, start_s)
    return {
        "tier": "estimated",
        "actions": [(round(at - start_s, 1), verb, line) for at, verb, line in acts_of(event) if at > began],
        "reports": [asdict(report) for report in reports],
        "calibration": calibration and asdict(calibration),
        "scores": plot_data(scores),
        "tokens_control": undisturbed[-1].tokens - undisturbed[0].tokens,
        "tokens_event": seen[-1].tokens - seen[0].tokens,
    }


def pass_time(duration_s: float) -> None:
    """Wait, in one piece: the floors need nobody."""
    time.sleep(duration_s)


def samples_of(floor: FloorUnderTest, *, since: float, until: float = inf) -> list[PowerSample]:
    """Return the samples of a floor; the budget is infinite where there is none."""
    statement = "SELECT at, power_w, budget_w, tokens FROM sample WHERE at BETWEEN ? AND ? ORDER BY at"
    rows = query(floor, statement, since, until)
    samples = []
    for at, power_w, budget_w, tokens in rows:
        limit_w = inf
        if budget_w is not None:
            limit_w = budget_w
        samples.append(PowerSample(at, power_w, limit_w, tokens))
    return samples


def acts_of(floor: FloorUnderTest) -> list[tuple[float, str, int]]:
    """Return time, verb and line of the scheduler's actions."""
    rows = query(floor, "SELECT at, kind, line FROM event WHERE kind IN (?, ?, ?, ?) ORDER BY seq", *ACTS)
    return [(at, kind, line) for at, kind, line in rows]


def predictions_of(floor: FloorUnderTest) -> list[Prediction]:
    """Return the predictions of pauses and resumes; starts are long over when the event begins."""
    rows = query(
        floor, "SELECT at, kind, line, details FROM event WHERE kind IN ('pause', 'resume') ORDER BY seq"
    )
    found = []
    for at, kind, line, text in rows:
        details = json.loads(text)
        found.append(
            Prediction(
                line=line,
                verb=kind,
                at=at,
                settled_at=at,
                predicted_w=details["predicted_w"],
                sd_w=details["predicted_sd_w"],
            )
        )
    return found


def forecast(samples: list[PowerSample], start_s: float, end_s: float) -> Baseline:
    """Return the floor's forecast at the start of the event: power and speed go on as in the time before."""
    before = [sample for sample in samples if sample.t_s < start_s]
    elapsed_s = before[-1].t_s - before[0].t_s
    return Baseline.forecast(
        power_w=fmean(sample.power_w for sample in before),
        tokens_per_s=(before[-1].tokens - before[0].tokens) / elapsed_s,
        horizon_s=end_s - start_s,
    )


def query(floor: FloorUnderTest, statement: str, *values: Any) -> list[Any]:
    """Return the rows of a query to the store of a floor."""
    with sqlite3.connect(floor.root / "floor.db") as connection:
        return connection.execute(statement, values).fetchall()


def draw(seen: list[PowerSample], undisturbed: list[PowerSample], start_s: float) -> None:
    """Draw power and budget, and the tokens of both floors."""
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(8, 6), sharex=True, layout="constrained")
    for samples, name, colour in ((undisturbed, "control", "0.6"), (seen, "event", "C0")):
        minutes = [(sample.t_s - start_s) / 60.0 for sample in samples]
        upper.plot(minutes, [sample.power_w for sample in samples], colour, label=name)
        tokens = [(sample.tokens - samples[0].tokens) / 1e6 for sample in samples]
        lower.plot(minutes, tokens, colour, label=name)
    limited = [sample for sample in seen if sample.limit_w < inf]
    minutes = [(sample.t_s - start_s) / 60.0 for sample in limited]
    upper.plot(minutes, [sample.limit_w for sample in limited], "C3", label="budget")
    upper.set_ylabel("power, estimated, upper bound [W]")
    upper.set_ylim(bottom=0.0)
    upper.legend()
    lower.set_ylabel("tokens [million]")
    lower.set_xlabel("time since the start of the event [min]")
    figure.savefig(HERE / "replay.png", dpi=120)


if __name__ == "__main__":
    main()
