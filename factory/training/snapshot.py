"""Save a job into a checkpoint, and restore it so that it goes on exactly."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from factory.config import TrainConfig, to_plain
from factory.energy.ledger import EnergyLedger
from factory.energy.meter import Meter
from factory.energy.reading import MeterReading, merge_readings
from factory.energy.tokens import TokenCounter
from factory.envs.core.training_env import COMMON_STATE, TrainingEnv
from factory.runtime import distributed, provenance, seeding, stored_files
from factory.runtime.atomic_write import atomic_write
from factory.training import checkpoint, fit, metrics
from factory.training.checkpoint import Checkpoint
from factory.training.guard import is_finite
from factory.training.health import Health, UnhealthyTrainingError
from factory.training.state import TrainState

if TYPE_CHECKING:
    from factory.training.job import TrainingJob

_ENERGY_FILE = "energy.json"


def save(job: TrainingJob, state: TrainState) -> Path:
    """Write a checkpoint; every process takes part, rank 0 writes.

    Returns:
        Folder of the checkpoint; of the run on other ranks.

    Raises:
        UnhealthyTrainingError: policy or learner are not finite; nothing was written.
    """
    job.meter.read()
    global_tensors, global_plain = seeding.global_state()
    plain = {
        **_energy_spent(job.meter, state),
        "excluded_s": state.excluded_s,
        "iteration": state.iteration,
        "physics_s": state.physics_s(job.env.physics_s),
        "threshold": state.threshold,
        "window": list(state.window),
        "metrics": state.metrics,
        "health": state.health.to_plain(),
        "tokens": state.tokens.state_dict(),
        "generators": global_plain,
        "mlflow_run_id": job.tracker.run_id,
        "token_spec": dataclasses.asdict(job.policy.token_spec),
        "versions": provenance.versions(),
    }
    tensors = {
        "policy": job.policy.state_dict(),
        "learner": job.learner.state_dict(),
        "env": _gather_rows(job.env.state_dict()),
        "collector": _gather_rows(job.collector.state_dict()),
        "generators": global_tensors | {"policy": job.policy.generator.get_state()},
    }
    learned = {name: tensors[name] for name in ("policy", "learner")}
    if not is_finite(learned):
        raise UnhealthyTrainingError(
            f"step {state.env_steps}: policy or learner are not finite, so no checkpoint was written;"
            f" the last good one is in {job.run_dir / 'checkpoints'}"
        )
    # The others have given their rows to rank 0, which alone has a file to write.
    if distributed.rank() > 0:
        return job.run_dir
    content = Checkpoint(env_steps=state.env_steps, tensors=tensors, state=plain, config=to_plain(job.cfg))
    return checkpoint.save(content, job.run_dir / "checkpoints", keep=job.cfg.runtime.keep_checkpoints)


def load_tensors(cfg: TrainConfig, found: Checkpoint, env: TrainingEnv, **parts: Any) -> None:
    """Restore the environments of this process, and other parts by the names of their tensors.

    Raises:
        ValueError: a part does not fit.
        WorldError: an environment that starts new episodes failed in its own code.
    """
    # A checkpoint has the worlds of all processes; each takes its own.
    rows = distributed.shard().rows(env.num_envs)
    try:
        fit.check_rows(found.tensors, num_envs=cfg.num_envs)
        for name, part in {"env": env, **parts}.items():
            state = found.tensors.get(name, {})
            if name in ("env", "collector"):
                state = {key: value if key in COMMON_STATE else value[rows] for key, value in state.items()}
            fit.load_part(part, state, name=name)
    except (ValueError, LookupError) as error:
        raise ValueError(
            f"resume={cfg.resume}: checkpoint {found.env_steps} does not fit ({error});"
            " resume without the keys that were changed"
        ) from error
    try:
        fit.check_state(found.state, found.tensors.get("generators", {}))
    except ValueError as error:
        raise ValueError(
            f"resume={cfg.resume}: checkpoint {found.env_steps} is malformed ({error})"
        ) from error


def restore(job: TrainingJob, found: Checkpoint) -> TrainState:
    """Restore generators, meter and journal, and return the state; tensors are restored by `load_tensors`."""
    plain = found.state
    tokens = TokenCounter()
    tokens.load_state_dict(plain["tokens"])
    state = TrainState(
        env_steps=found.env_steps,
        iteration=plain["iteration"],
        tokens=tokens,
        health=Health.from_plain(plain["health"]),
        threshold=plain["threshold"],
        metrics=plain["metrics"],
        window=tuple(plain.get("window", ())),
        resumed_at=found.env_steps,
        physics_before_s=plain["physics_s"],
    )
    # The totals of rank 0 are those of all processes.
    if distributed.rank() == 0:
        state = _restore_energy(job, state, plain)
    generators = dict(found.tensors["generators"])
    job.policy.generator.set_state(generators.pop("policy").cpu())
    seeding.set_global_state(generators, plain["generators"])
    job.journal.truncate_after(state.env_steps)
    return state


def write_energy(job: TrainingJob, state: TrainState) -> None:
    """Keep the energy spent so far, so that a resume also counts what came after the last checkpoint."""
    with atomic_write(job.run_dir / _ENERGY_FILE) as unfinished:
        unfinished.write_text(json.dumps(_energy_spent(job.meter, state)))


def _energy_spent(meter: Meter, state: TrainState) -> dict[str, Any]:
    peers = [*state.peers_before, *state.peers]
    return {
        "meter": meter.state_dict(),
        "evaluation_tokens": state.tokens.evaluation,
        "peer_meters": [dataclasses.asdict(merge_readings(peers))] if peers else [],
    }


def _restore_energy(job: TrainingJob, state: TrainState, saved: dict[str, Any]) -> TrainState:
    """Go on from the energy spent when the run ended, which may be more than at its last checkpoint."""
    try:
        spent = stored_files.read_json(job.run_dir / _ENERGY_FILE)
        fit.check_energy(spent)
    except ValueError:
        # Only the checkpoints were copied here, or the machine went down while the file was written.
        spent = saved
    at_checkpoint = EnergyLedger.from_dict(saved["meter"]).reading()
    at_end = EnergyLedger.from_dict(spent["meter"]).reading()
    if at_end.wall_s < at_checkpoint.wall_s:
        # The process was killed between a checkpoint and the next write of the energy file.
        spent = saved
        at_end = at_checkpoint

    # Work after the checkpoint is done again. Its energy counts, its time must not count twice.
    before = metrics.times(at_checkpoint)
    excluded_s = {
        key: value - before[key] + saved["excluded_s"].get(key, 0.0)
        for key, value in metrics.times(at_end).items()
    }
    job.meter.load_state_dict(spent["meter"])
    state.tokens.evaluation = spent["evaluation_tokens"]
    peers_before = tuple(MeterReading(**known) for known in spent["peer_meters"])
    return dataclasses.replace(state, excluded_s=excluded_s, peers_before=peers_before)


def _gather_rows(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the rows of the environments of all processes, and the tensors they have in common."""
    return {
        name: value if name in COMMON_STATE else distributed.gather(value) for name, value in state.items()
    }
