"""What every command line does alike: check first, report a user's mistake in one line, exit 2."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from factory import config
from factory.config import TrainConfig

T = TypeVar("T")

_MAX_CHECKED_JOBS = 64
"""Jobs of a sweep that are checked before the first one starts."""


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a user's mistake into one line on stderr and exit status 2."""
    try:
        yield
    except (ValueError, HydraException, OmegaConfBaseException) as error:
        fail(error)


def fail(error: BaseException) -> None:
    """Print the error as one line and exit with status 2."""
    print(f"error: {_one_line(error)}", file=sys.stderr)
    raise SystemExit(2) from None


def checked(arguments: Sequence[str]) -> list[str]:
    """Return Hydra's arguments after composing and checking every job they ask for; nothing is written.

    `resume=...` is replaced by the overrides the run was started with, the new ones after them, and the run
    folder to write to.

    Raises:
        ValueError, HydraException, OmegaConfBaseException: the first mistake found.
    """
    flags = [argument for argument in arguments if argument.startswith("-")]
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    if set(flags) & {"--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc"}:
        return list(arguments)
    parsed = OverridesParser.create().parse_overrides(overrides)
    is_sweep = bool(set(flags) & {"--multirun", "-m"})
    if not is_sweep:
        swept = [str(o.key_or_group) for o in parsed if o.is_sweep_override()]
        if swept:
            raise ValueError(f"{swept[0]}: several values given; add -m to run one job for each")
    if any(o.key_or_group == "resume" for o in parsed):
        if is_sweep:
            raise ValueError("resume: a sweep cannot resume; resume its runs one by one")
        overrides = _resumed(overrides, parsed)
    jobs = _jobs(overrides) if is_sweep else [overrides]
    for job in jobs[:_MAX_CHECKED_JOBS]:
        _check(_compose(job))
    return [*flags, *overrides]


def _jobs(overrides: list[str]) -> list[list[str]]:
    """Return the override lists of a sweep's jobs, as Hydra's basic sweeper makes them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    parsed = OverridesParser.create().parse_overrides(overrides)
    return [list(job) for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]


def _compose(overrides: list[str]) -> TrainConfig:
    GlobalHydra.instance().clear()
    own = [override for override in overrides if not override.lstrip("+~").startswith("hydra")]
    with initialize_config_dir(str(config.CONF_DIR), version_base="1.3"):
        composed = compose("train", overrides=own)
    return config.from_hydra(composed)


def _check(cfg: TrainConfig) -> None:
    """Check what the schema cannot: the output folder, and that the environment and the gauges can be built."""
    from factory.energy.meter import Meter
    from factory.line import make_env

    _check_writable(Path(cfg.output_root))
    make_env(cfg, num_envs=1).close()
    Meter.from_config(cfg.energy, cfg.device)


def _check_writable(folder: Path) -> None:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise ValueError(f"output_root={folder}: {existing} is a file; give a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"output_root={folder}: {existing} is not writable; give another folder")


def _resumed(overrides: list[str], parsed: list[Override]) -> list[str]:
    """Return the overrides of the run to resume, followed by the new ones."""
    values = {str(o.key_or_group): str(o.value()) for o in parsed}
    output_root = Path(values.get("output_root", TrainConfig.output_root))
    run_dir = find_run(values["resume"], key="resume", output_root=output_root)
    stored_file = run_dir / ".hydra" / "overrides.yaml"
    stored = yaml.safe_load(stored_file.read_text()) if stored_file.is_file() else []
    kept = [o for o in stored if not o.startswith(("resume=", "hydra."))]
    new = [o for o in overrides if not o.startswith("resume=")]
    folder = str(run_dir)
    return [*_without_replaced(kept, new), *new, f"resume='{folder}'", f"hydra.run.dir='{folder}'"]


def _without_replaced(stored: list[str], new: list[str]) -> list[str]:
    """Drop stored overrides whose key is given anew (a group may be chosen only once)."""
    keys = {override.partition("=")[0].lstrip("+") for override in new}
    return [override for override in stored if override.partition("=")[0].lstrip("+") not in keys]


def parse(schema: type[T], arguments: Sequence[str]) -> T:
    """Return the dataclass `schema` with `key=value` arguments put in.

    Raises:
        ValueError, OmegaConfBaseException: an argument is no `key=value`, or its key or value is wrong.
    """
    wrong = [argument for argument in arguments if "=" not in argument or argument.startswith("-")]
    if wrong:
        raise ValueError(f"{wrong[0]}: give key=value; --help lists the keys")
    merged = OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.from_dotlist(list(arguments)))
    missing = sorted(str(key) for key in OmegaConf.missing_keys(merged))
    if missing:
        raise ValueError(f"{missing[0]}: must be given; --help says how")
    return OmegaConf.to_object(merged)  # type: ignore[return-value]


def find_run(name: str, *, key: str, output_root: Path) -> Path:
    """Return the folder of a run that has a checkpoint.

    Args:
        name: run folder, MLflow run id, or `last` for the newest.
        key: what the user called it, for the error message.
        output_root: where the runs are.

    Raises:
        ValueError: there is no such run, or it has no checkpoint.
    """
    pointers = sorted(output_root.glob("**/checkpoints/last"), key=lambda path: path.stat().st_mtime)
    if name == "last":
        if not pointers:
            raise ValueError(f"{key}=last: no run with a checkpoint under {output_root.absolute()}")
        return pointers[-1].absolute().parents[1]
    folder = Path(name).expanduser().absolute()
    if folder.is_dir():
        if not (folder / "checkpoints" / "last").exists():
            raise ValueError(f"{key}={name}: no checkpoint there; give a folder that has checkpoints/last")
        return folder
    for pointer in pointers:
        if json.loads((pointer / "state.json").read_text())["mlflow_run_id"] == name:
            return pointer.absolute().parents[1]
    raise ValueError(f"{key}={name}: no such run folder, and no run of that MLflow id under {output_root.absolute()}")


def _one_line(error: BaseException) -> str:
    """Return the message on one line, without Hydra's and OmegaConf's trailers."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and not line.startswith(("full_key:", "object_type=", "reference_type="))]
    keys = [line.partition(":")[2].strip() for line in lines if line.startswith("full_key:")]
    text = " ".join(kept) or type(error).__name__
    return f"{keys[0]}: {text}" if keys and keys[0] and keys[0] not in text else text
