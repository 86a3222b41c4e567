"""The metrics that people read: label, unit and direction, for console, report, comparison and tracker.

A metric that is not in the table, such as a loss of a learner of your own, is labelled from its key. The
unit of a metric that a task adds is the end of its name, as in `lap_time_s`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from factory.energy.types import PHASES


class Better(StrEnum):
    """Direction in which a metric improves."""

    HIGHER = "higher"
    LOWER = "lower"
    NONE = "none"
    """Neither, or it depends."""


HIGHER = Better.HIGHER
LOWER = Better.LOWER
NONE = Better.NONE


@dataclass(frozen=True)
class Metric:
    """One metric as people read it."""

    key: str
    """Key in `metrics.jsonl`, `summary.json` and MLflow."""
    label: str
    unit: str = ""
    """Unit of the value; `%` for a share of one, `s` for a duration."""
    better: Better = NONE
    is_signed: bool = False
    """True if values may be negative; else groups are compared by their ratio and intervals stay positive."""
    short: str = ""
    """Label where space is scarce; empty means the label in lower case."""

    @property
    def short_label(self) -> str:
        """Label for the console."""
        return self.short or self.label.lower()

    @property
    def is_energy(self) -> bool:
        """True if the value comes from energy sources, as cost and carbon do."""
        return self.unit in ("J", "J/token", "USD", "g CO2e")


# All that every training logs, besides the outcomes and episode metrics of its task, the parts of a machine
# that a plug-in meters, and the losses of other learners than PPO. In the order in which tables show them:
# skill, speed, energy, money and carbon, time, health, losses.
METRICS: tuple[Metric, ...] = (
    Metric("eval/return_mean", "Return, evaluation", better=HIGHER, is_signed=True),
    Metric("eval/return_std", "Return std, evaluation"),
    Metric("eval/return_ci95", "Return, half of its 95 % interval, evaluation"),
    Metric("train/return_mean", "Return, training", better=HIGHER, is_signed=True, short="return"),
    Metric("train/episode_length_mean", "Episode length", "steps", short="episode length"),
    Metric("eval/episode_length_mean", "Episode length, evaluation", "steps"),
    Metric("eval/episodes", "Episodes, evaluation"),
    Metric("eval/success_rate", "Success rate, evaluation", "%", HIGHER),
    Metric("train/success_rate", "Success rate, training", "%", HIGHER, short="success"),
    Metric("eval/fall_rate", "Fall rate, evaluation", "%", LOWER),
    Metric("eval/velocity_rms_m_per_s", "Tracking error, evaluation", "m/s", LOWER),
    Metric("factory/env_steps", "Environment steps", short="env steps"),
    Metric("factory/env_steps_per_s", "Environment steps", "steps/s", HIGHER, short="env steps/s"),
    Metric("factory/iterations", "Iterations"),
    Metric("factory/tokens_total", "Control tokens"),
    Metric("factory/tokens_good", "Control tokens of a policy that passed", "tokens", HIGHER),
    Metric("factory/tokens_per_s", "Control tokens", "tokens/s", HIGHER, short="tokens/s"),
    Metric("factory/steady_tokens_per_s", "Control tokens after the warm-up", "tokens/s", HIGHER),
    Metric("energy/total_j", "Total energy", "J", LOWER),
    Metric("energy/total_j_lo", "Total energy, lower bound", "J", LOWER),
    Metric("energy/total_j_hi", "Total energy, upper bound", "J", LOWER),
    Metric("energy/cpu_j", "Energy of the CPU", "J", LOWER),
    Metric("energy/gpu_j", "Energy of the GPU", "J", LOWER),
    Metric("energy/dram_j", "Energy of the memory", "J", LOWER),
    Metric("energy/unattributed_j", "Energy of no phase", "J", LOWER),
    Metric("energy/mean_power_w", "Mean power", "W"),
    *(Metric(f"energy/phase/{phase}_j", f"Energy of the phase {phase}", "J", LOWER) for phase in PHASES),
    Metric("factory/joules_per_token", "Energy per token", "J/token", LOWER),
    Metric("factory/rollout_joules_per_token", "Energy of rollouts per token", "J/token", LOWER),
    Metric("factory/steady_joules_per_token", "Energy per token after the warm-up", "J/token", LOWER),
    Metric("factory/net_joules_per_token", "Energy per token without idle power", "J/token", LOWER),
    Metric("factory/tokens_per_joule", "Control tokens per joule", "tokens/J", HIGHER),
    Metric("factory/joules_to_threshold", "Energy to the threshold", "J", LOWER),
    Metric("factory/cpu_s_per_token", "CPU time per token", "s/token", LOWER),
    Metric("factory/usd", "Electricity", "USD", LOWER),
    Metric("factory/gco2e", "Carbon", "g CO2e", LOWER),
    Metric("factory/usd_per_mtoken", "Electricity per M tokens", "USD", LOWER),
    Metric("factory/gco2e_per_mtoken", "Carbon per M tokens", "g CO2e", LOWER),
    Metric("time/wall_s", "Wall time", "s", LOWER),
    Metric("time/sim_s", "Time of simulation", "s", LOWER),
    Metric("time/physics_s", "Time of the physics engine", "s", LOWER),
    Metric("time/infer_s", "Time of inference", "s", LOWER),
    Metric("time/learn_s", "Time of learning", "s", LOWER),
    Metric("time/meter_s", "Time of the energy meter", "s", LOWER),
    Metric("factory/seconds_to_threshold", "Time to the threshold", "s", LOWER),
    Metric("health/bad_samples", "Samples left out", better=LOWER),
    Metric("health/skipped_steps", "Skipped gradient steps", better=LOWER),
    Metric("health/rollbacks", "Rollbacks", better=LOWER),
    Metric("loss/learning_rate", "Learning rate"),
    Metric("loss/approx_kl", "Approximate KL", short="approx_kl"),
    Metric("loss/policy", "Policy loss", is_signed=True),
    Metric("loss/value", "Value loss", better=LOWER),
    Metric("loss/entropy", "Entropy", is_signed=True),
    Metric("loss/clip_fraction", "Clip fraction"),
    Metric("loss/explained_variance", "Explained variance", "", HIGHER, True, "explained var"),
    Metric("loss/grad_norm", "Gradient norm"),
)
# A key has one meaning everywhere.
_BY_KEY = {metric.key: metric for metric in METRICS}


_SIDES = {"eval": "evaluation", "train": "training"}
"""Groups of metrics that tasks add to."""
_UNITS = {
    "_m_per_s": "m/s",
    "_rad_per_s": "rad/s",
    "_s": "s",
    "_m": "m",
    "_deg": "deg",
    "_rate": "%",
    "_share": "%",
}
"""Ends of the names of such metrics, and their units; the first that fits counts."""
_BETTER_OUTCOMES = {"success": HIGHER, "timeout": NONE, "terminated": NONE}
"""Outcomes that a task does not avoid."""


def is_listed(key: str) -> bool:
    """Return whether the table has a key."""
    return key in _BY_KEY


def metric(key: str) -> Metric:
    """Return the metric of a key; one that is not in the table is labelled from its key."""
    if key in _BY_KEY:
        return _BY_KEY[key]
    group, _, name = key.partition("/")
    if group in _SIDES:
        return _of_a_task(key, name, _SIDES[group])
    # Nothing is known of its sign, so groups are compared by the difference.
    return Metric(key, _sentence(key.rpartition("/")[2]), is_signed=True)


def _of_a_task(key: str, name: str, side: str) -> Metric:
    """Return a metric that a task adds to an evaluation or a training."""
    if name.startswith("outcome/"):
        outcome = name.removeprefix("outcome/")
        label = f"Outcome {outcome.replace('_', ' ')}, {side}"
        return Metric(key, label, "%", _BETTER_OUTCOMES.get(outcome, LOWER))
    suffix = next((suffix for suffix in _UNITS if name.endswith(suffix)), "")
    label = f"{_sentence(name.removesuffix(suffix))}, {side}"
    return Metric(key, label, _UNITS.get(suffix, ""), is_signed=True)


def _sentence(name: str) -> str:
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]
