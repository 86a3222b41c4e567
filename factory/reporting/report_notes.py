"""Sentences of a report: missing pieces, the origin of the joules, the version of the code."""

from __future__ import annotations

import math
from collections.abc import Mapping

from factory.reporting.formatting import UNKNOWN, energy_text, format_duration, format_percent, format_si
from factory.reporting.run_folder import Run

TIER_SENTENCES = {
    "measured": "Hardware energy counters were read all along the run.",
    "sampled": "The hardware's power was read repeatedly and integrated; peaks between readings are lost.",
    "apportioned": "The energy of shared hardware was divided by this run's share of its use.",
    "shared": "Others used the same hardware: its counter is an upper bound for this run.",
    "calibrated": "No hardware counter was readable; CPU time times a power model fitted to another meter.",
    "estimated": "No hardware counter was readable; joules are CPU time times a power model.",
    "replayed": "The power comes from a recording of another run, not from this machine.",
}


def missing_pieces(run: Run) -> list[str]:
    """Return one sentence for everything a whole run would have and this one has not."""
    # A missing tier matters only where there are joules.
    has_energy = "energy/total_j" in run.metrics
    left_out = {
        "samples (not finite or absurdly large)": run.metrics.get("health/bad_samples", 0.0),
        "gradient steps": run.metrics.get("health/skipped_steps", 0.0),
        "updates": run.metrics.get("health/rollbacks", 0.0),
    }
    health = ", ".join(f"{count:.0f} {name}" for name, count in left_out.items() if count)
    has_pictures = bool(run.videos) or (run.folder / "videos/filmstrip.png").exists()
    checks = (
        (
            run.status in ("finished", "unknown"),
            f"The run did not finish (status: {run.status}); metrics are the last known ones.",
        ),
        (not health, f"Left out of learning: {health}."),
        (run.status != "unknown", "No summary.json: status, tags, versions and energy tier are not known."),
        (bool(run.records), "No metrics.jsonl: there are no curves."),
        (any(key.startswith("eval/") for key in run.metrics), "No evaluation: skill is as seen in training."),
        (has_pictures, "No video and no strip of stills."),
        (has_energy, "No energy metrics: the run was not metered."),
        (bool(run.tier) or not has_energy, "No energy tier was recorded: do not quote the joules."),
        (bool(run.config_text), "No config.yaml: the configuration is not known."),
        (run.overrides is not None, "No .hydra/overrides.yaml: the command line is not known."),
    )
    return [sentence for present, sentence in checks if not present]


def time_note(metrics: Mapping[str, float]) -> str:
    """Return the wall time and the share of the physics engine."""
    wall_s = metrics["time/wall_s"]
    note = f"Wall time {format_duration(wall_s)}."
    # Environments of other libraries do not time their engine.
    if metrics.get("time/physics_s"):
        share = format_percent(metrics["time/physics_s"] / wall_s)
        note += f" The physics engine alone, within sim, took {share} of it."
    return note


def energy_note(run: Run) -> str:
    """Return the total with tier, interval, boundary, their meaning, and how far the parts can be trusted."""
    metrics = run.metrics
    total, source = energy_text(metrics["energy/total_j"], metrics, tier=run.tier)
    sentences = [
        f"Total {total} ({source}). Boundary: {run.tags.get('energy.boundary', 'not recorded')}.",
        TIER_SENTENCES.get(run.tier, "The origin of the joules was not recorded."),
    ]
    if "energy.shared" in run.tags:
        sentences.append(
            "Others computed on the same cores: the joules are this run's claim for its own CPU time, and "
            "the upper bound is everybody's."
        )
    low, high = (format_si(metrics.get(f"energy/total_j_{side}", math.nan), "J") for side in ("lo", "hi"))
    # A recorded power does not bound what this machine drew.
    if UNKNOWN not in (low, high) and run.tier != "replayed":
        confidence = " with about 95 % confidence"
        if run.tier == "estimated":
            confidence = ", if the model suits this machine"
        sentences.append(f"The true value lies in [{low}, {high}]{confidence}.")
    if "energy.components" in run.tags:
        sentences.append(f"Components: {run.tags['energy.components']}.")
    if "energy.phase_tier" in run.tags:
        sentences.append(f"Split into phases: {run.tags['energy.phase_tier']}, by time within short windows.")
    return " ".join(sentences)


def code_note(tags: Mapping[str, str]) -> str:
    """Return the version of the code, and whether it alone repeats the run."""
    # An installed package has no commit.
    commit = tags.get("git.commit", "")
    note = "Code: git commit not recorded."
    if commit:
        note = f"Code: git commit {commit}."
    if tags.get("git.dirty", "").lower() == "true":
        note += " The working tree had uncommitted changes: the commit alone does not repeat this run."
    return note


def determinism_note(conditions: Mapping[str, str]) -> str:
    """Return one sentence on when the command repeats the run bit for bit; empty if that is not recorded."""
    if not conditions:
        return ""
    if conditions.get("is_exact") != "True":
        return "A GPU rounds in no fixed order: the command gives a run that is alike, not equal."
    needed = [
        f"torch threads: {conditions.get('torch_threads', UNKNOWN)}",
        f"processes: {conditions.get('processes', UNKNOWN)}",
        f"computed by {conditions.get('computed_by', UNKNOWN)}",
        f"processor {conditions.get('processor', UNKNOWN)}",
        "and the versions below",
    ]
    note = f"The command gives the same weights, bit for bit, under equal conditions ({', '.join(needed)})."
    if conditions.get("is_exact_over_resumes") != "True":
        note += " The environment has to respect its seed, and a resume starts new episodes."
    return note
