"""The experiment's one table, made of results.json alone."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import floors


def table(results: dict[str, Any]) -> str:
    """Return the machine, and a line for every cell."""
    machine = results["machine"]
    gpu = results["driver"] or ", ".join(gpu["name"] for gpu in machine["gpus"]) or "no GPU"
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    note = " **A trial: these figures say nothing.**" if results["quick"] else ""
    lines = [
        f"{gpu}; {machine['cpu']}, {machine['cpus_available']} CPUs; device={results['device']} "
        f"physics={results['physics']}; commit {results['git.commit'][:10]}; {results['date']}.{note}",
        "",
        versions + ".",
        "",
        "| what | result |",
        "|---|---|",
    ]
    lines += [f"| {name} | {text(name, found)} |" for name, found in results["cells"].items()]
    return "\n".join(lines)


def text(name: str, found: dict[str, Any]) -> str:
    """Return a cell in words."""
    for key in ("error", "left_out"):
        if key in found:
            return f"{'failed: ' if key == 'error' else ''}{found[key]}".replace("|", "/")
    return "; ".join(_WORDS[name.split()[0]](found))


def _machine(found: dict[str, Any]) -> Iterator[str]:
    if not found["cuda"]:
        yield "no GPU"
        return
    yield f"compute capability {'.'.join(map(str, found['capability']))}, CUDA {found['torch_cuda']}"
    yield f"memory pools {_yes(found['memory_pools'])}"
    yield f"conditional graphs {_yes(found['conditional_graphs'])}"


def _torch_graphs(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['equal']} of {found['calls']} recorded updates equal eager ones bit for bit"


def _failure(found: dict[str, Any]) -> Iterator[str]:
    yield from (f"{name}: {answer}".replace("|", "/") for name, answer in found["steps"].items())
    yield f"recorded after all: {_yes(found['recorded'])}"
    yield f"reason: {found['reason']}".replace("|", "/")


def _engine(found: dict[str, Any]) -> Iterator[str]:
    yield ", ".join(
        f"{name} apart by {found['median'][name]:.2g} (median) and {found['max'][name]:.2g} (largest)"
        for name in found["max"]
    )
    yield f"a reset leaves others alone: {_yes(found['reset_leaves_others'])}"
    yield from (line.replace("|", "/") for line in found["warnings"])


def _first_run(found: dict[str, Any]) -> Iterator[str]:
    for name in ("first", "resumed"):
        run = found[name]
        ended = "finished" if run["status"] == 0 else f"status {run['status']} ({run['last_line']})"
        yield f"{name} {ended} after {run['wall_s']:.0f} s".replace("|", "/")
        yield from (line.replace("|", "/") for line in run["graph_lines"])
    if "tokens_per_s" in found:
        yield f"{_si(found['tokens_per_s'])} tokens/s, energy tier {found['energy_tier']}"


def _trace(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['kernels']} kernels, busy {found['busy_ms']:.3g} of {found['span_ms']:.3g} ms"
    yield ", ".join(f"{name[:60]} {ms:.3g} ms" for name, ms in list(found["most_ms"].items())[:5])


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _compile(found: dict[str, Any]) -> Iterator[str]:
    yield f"kernels ready after {found['wall_s']:.1f} s"


def _check(found: dict[str, Any]) -> Iterator[str]:
    yield ", ".join(
        f"{found[word]} {word}" for word in ("passed", "failed", "error", "skipped") if word in found
    )
    yield from (note.replace("|", "/") for note in found["notes"])


def _bench(found: dict[str, Any]) -> Iterator[str]:
    names = {"raw": "physics", "env": "env", "policy": "+policy", "learn": "+learn"}
    yield (
        " > ".join(f"{names[k]} {_si(level['steps_per_s'])}" for k, level in found["levels"].items())
        + " steps/s"
    )
    part, energy = found["iteration"], found["energy"]
    yield f"learner {100 * part['learn_s'] / part['wall_s']:.0f} % of {1e3 * part['wall_s']:.3g} ms"
    yield (
        f"{_si(found['tokens_per_s'])} tokens/s, "
        f"{_energy(energy['joules_per_token'], 'J/token', energy['tier'])}"
    )
    yield f"spread {100 * max(level['spread'] or 0.0 for level in found['levels'].values()):.0f} %"
    if "torch_peak_gb" in found:
        yield f"memory {found['torch_peak_gb']:.3g} GB of torch, {found['device_used_gb']:.3g} GB in all"


def _graphs(found: dict[str, Any]) -> Iterator[str]:
    yield from _pair(found, "captured", "eager")
    yield f"recorded: {' and '.join(found['recorded']) or 'nothing'}"


def _peer(found: dict[str, Any]) -> Iterator[str]:
    yield from _pair(found, "ours", "rsl_rl")
    yield f"rsl_rl {found['rsl_rl_version']}"


def _pair(found: dict[str, Any], first: str, second: str) -> Iterator[str]:
    ratios = [one / other for one, other in zip(found[first], found[second], strict=True)]
    speeds = (f"{name} {_si(statistics.median(found[name]))} steps/s" for name in (first, second))
    yield ", ".join(speeds)
    yield f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _train(found: dict[str, Any]) -> Iterator[str]:
    metrics, tier = found["metrics"], found["tags"].get("energy.tier", "none")
    yield f"return {metrics['eval/return_mean']:.4g} +- {metrics['eval/return_ci95']:.2g} (deterministic)"
    seconds, joules = (metrics.get(f"factory/{key}_to_threshold") for key in ("seconds", "joules"))
    if seconds is None:
        yield f"{found['threshold']:g} not reached"
    else:
        yield f"{found['threshold']:g} after {seconds:.4g} s, {_energy(joules, 'J', tier)}"
    yield f"{_si(metrics['factory/tokens_per_s'])} tokens/s"
    yield _energy(metrics.get("factory/joules_per_token"), "J/token", tier)
    yield f"{metrics['time/wall_s']:.4g} s of training, {metrics['factory/env_steps']:.3g} steps"


def _mjlab(found: dict[str, Any]) -> Iterator[str]:
    yield f"{_si(found['steps_per_s'])} steps/s trained; {found['task']}; mjlab {found['mjlab']}"


_WORDS = {
    "machine": _machine,
    "torch-graphs": _torch_graphs,
    "failure": _failure,
    "engine": _engine,
    "first-run": _first_run,
    "floor": floors.words,
    "trace": _trace,
    "compile": _compile,
    "check": _check,
    "bench": _bench,
    "graphs": _graphs,
    "peer": _peer,
    "train": _train,
    "mjlab": _mjlab,
}


def _energy(value: float | None, unit: str, tier: str) -> str:
    return "no joules" if value is None else f"{value:.3g} {unit} ({tier})"


def _si(value: float | None) -> str:
    if value is None:
        return "-"
    return (
        f"{value / 1e6:.3g} M" if value >= 1e6 else f"{value / 1e3:.3g} k" if value >= 1e3 else f"{value:.3g}"
    )
