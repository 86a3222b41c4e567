"""Calibration of power profiles: short trainings in interleaved rounds, each beside max_performance."""

from __future__ import annotations

import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from omegaconf import OmegaConf

from factory import options, plugins
from factory.config import TrainConfig, label
from factory.power.config import DEFAULT, ProfileConfig
from factory.power.verification import Verification

YARDSTICK = "max_performance"
CAPPED = "capped"
CAP_SHARE = 0.75
"""Limit of `capped` where none is given, as a share of the watts of the yardstick."""
_WARM_UP = 2
"""Iterations at the start that are not counted."""
# Others may use the machine meanwhile; their CPU time is not the profile's.
_OWN = ("energy.scope=process",)
_QUIET = (
    "tracking=null",
    "runtime.video_s=0",
    "runtime.eval_episodes=1",
    "runtime.register_model=false",
)
_TIMEOUT_S = 3600.0
_HINT = "HYDRA_FULL_ERROR"
"""Part of the line that follows the cause of a crash."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One short training."""

    tokens_per_s: float
    """By the clock on the wall, pauses counted."""
    watts: float
    joules_per_token: float
    cpu_s_per_token: float
    tier: str
    weights: str
    """Digest of the trained policy."""
    enforced: str
    """Settings in force, as the run's tag has them."""


def names() -> list[str]:
    """Return the profiles that can be calibrated, the yardstick first."""
    others = [name for name in options.choices("profile") if name not in (YARDSTICK, DEFAULT)]
    return [YARDSTICK, *others]


def shipped(name: str, *, cap_w: float = 1.0) -> ProfileConfig:
    """Return a profile as its file has it.

    Args:
        name: the profile.
        cap_w: limit of `capped`, which its user has to give [W].
    """
    folders = (options.CONF_DIR, *plugins.conf_dirs())
    path = next(folder / "profile" / f"{name}.yaml" for folder in folders if _has(folder, name))
    limit = {}
    if name == CAPPED:
        limit = {"watts": cap_w}
    merged = OmegaConf.merge(OmegaConf.structured(ProfileConfig), OmegaConf.load(path), limit)
    return OmegaConf.to_object(merged)  # type: ignore[return-value]


def _has(folder: Path, name: str) -> bool:
    return (folder / "profile" / f"{name}.yaml").exists()


def calibrate(
    overrides: Sequence[str],
    profiles: Sequence[str],
    *,
    rounds: int = 3,
    iterations: int = 12,
    cap_w: float = 0.0,
    on_sample: Callable[[int, str, Sample], None] = lambda index, name, sample: None,
) -> list[Verification]:
    """Train with each profile in turn, and compare it with the yardstick of the same round.

    Args:
        overrides: command line of the training, without a profile.
        profiles: profiles to calibrate besides the yardstick.
        rounds: trainings of each profile.
        iterations: iterations of a training.
        cap_w: limit of `capped` [W]; a share of the yardstick's watts if 0.
        on_sample: takes the number of the round, the profile and the result of each training.

    Raises:
        ValueError: a setting is wrong.
        RuntimeError: a training failed; the message has its last line.
    """
    # Imported here: a mistake on the command line is answered before torch is loaded.
    from factory.cli import single_job

    cfg = single_job(overrides)
    steps = iterations * cfg.num_envs * cfg.learner.num_steps
    job = [*_OWN, *overrides, f"total_steps={steps}", *_QUIET]
    order = [YARDSTICK, *(name for name in profiles if name != YARDSTICK)]
    samples: dict[str, list[Sample]] = {name: [] for name in order}
    for index in range(rounds):
        # Every round begins elsewhere in the list, so that no profile always follows the same one.
        shift = index % len(order)
        for name in order[shift:] + order[:shift]:
            if name == CAPPED and not cap_w:
                cap_w = round(CAP_SHARE * samples[YARDSTICK][0].watts, 2)
            samples[name].append(measure([*job, *_choice(name, cap_w)]))
            on_sample(index + 1, name, samples[name][-1])
    return [
        _verification(cfg, shipped(name, cap_w=cap_w), samples[name], beside=samples[YARDSTICK])
        for name in order
    ]


def _choice(name: str, cap_w: float) -> list[str]:
    if name == CAPPED:
        return [f"profile={CAPPED}", f"profile.watts={cap_w}"]
    return [f"profile={name}"]


def _verification(
    cfg: TrainConfig, profile: ProfileConfig, samples: Sequence[Sample], *, beside: Sequence[Sample]
) -> Verification:
    """Return the result of a profile from its samples and those of the yardstick in the same rounds."""
    from factory.runtime import hardware, provenance

    pairs = list(zip(samples, beside, strict=True))
    # Ratios within a round first, then the median: a machine that warms up moves both of a pair.
    speeds = [own.tokens_per_s / other.tokens_per_s for own, other in pairs]
    return Verification(
        profile=profile.name,
        settings=asdict(profile),
        task=label(cfg),
        machine=hardware.name(),
        device=cfg.device,
        date=datetime.now(UTC).date().isoformat(),
        commit=provenance.git_tags()["git.commit"],
        rounds=len(samples),
        load=hardware.load(),
        speed_ratio=statistics.median(speeds),
        speed_lo=min(speeds),
        speed_hi=max(speeds),
        watts_ratio=statistics.median(own.watts / other.watts for own, other in pairs),
        joules_ratio=statistics.median(own.joules_per_token / other.joules_per_token for own, other in pairs),
        tokens_per_s=statistics.median(sample.tokens_per_s for sample in samples),
        watts=statistics.median(sample.watts for sample in samples),
        joules_per_token=statistics.median(sample.joules_per_token for sample in samples),
        cpu_s_per_token=statistics.median(sample.cpu_s_per_token for sample in samples),
        tier=samples[0].tier,
        has_equal_weights=len({sample.weights for sample in [*samples, *beside]}) == 1,
    )


def measure(job: Sequence[str]) -> Sample:
    """Train in a process of its own and return speed, power and weights.

    Raises:
        RuntimeError: the training failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "factory.train", *job, f"hydra.run.dir={folder}/run"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            said = [line for line in done.stderr.splitlines() if line.strip() and _HINT not in line]
            last = (said or ["no message"])[-1]
            raise RuntimeError(f"training with {job[-1]} ended with status {done.returncode}: {last}")
        return read_sample(Path(folder) / "run")


def read_sample(run_dir: Path) -> Sample:
    """Return speed, power and weights of a finished run, its warm-up left out."""
    from factory.reporting.run_folder import read_records

    records = [record for record in read_records(run_dir / "metrics.jsonl") if not record.is_final]
    first = records[min(_WARM_UP, len(records) - 1) - 1]
    last = records[-1]
    # Differences of totals between the end of the warm-up and the end of the last iteration.
    tokens = last.metrics["factory/tokens_total"] - first.metrics["factory/tokens_total"]
    joules = last.metrics["energy/total_j"] - first.metrics["energy/total_j"]
    seconds = last.time_unix_s - first.time_unix_s
    cpu_s = [
        record.metrics["factory/cpu_s_per_token"] * record.metrics["factory/tokens_total"]
        for record in (first, last)
    ]
    tags = json.loads((run_dir / "summary.json").read_text())["tags"]
    weights = (run_dir / "checkpoints" / "last" / "policy.safetensors").read_bytes()
    return Sample(
        tokens_per_s=tokens / seconds,
        watts=joules / seconds,
        joules_per_token=joules / tokens,
        cpu_s_per_token=(cpu_s[1] - cpu_s[0]) / tokens,
        tier=tags["energy.tier"],
        weights=hashlib.sha256(weights).hexdigest(),
        enforced=tags.get("power/enforced", "nothing"),
    )
