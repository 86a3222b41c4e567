"""What every command line does alike: check first, report a user's mistake in one line, exit 2."""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import NoReturn, TypeVar

import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from factory import config, options, plugins
from factory.config import TrainConfig
from factory.envs.core.training_env import WorldError
from factory.runtime import distributed
from factory.tracking.base import flatten
from factory.training import checkpoint

T = TypeVar("T")

_MAX_CHECKED_JOBS = 64
"""Jobs of a sweep that are checked before the first one starts."""
_FIXED = ("task.name", "robot", "env_id", "device", "num_envs", "physics.name", "policy.", "learner.name")
"""Keys a resumed run cannot change: its tensors would not fit."""


def show_warnings() -> None:
    """Print the package's warnings on stderr, one line each; as a library it is silent."""
    logging.getLogger("factory").handlers = [logging.lastResort or logging.StreamHandler()]


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a user's mistake into one line on stderr and exit status 2."""
    try:
        yield
    except (ValueError, WorldError, HydraException, OmegaConfBaseException) as error:
        fail(error)


@contextlib.contextmanager
def one_line_faults(run_dir: Path) -> Iterator[None]:
    """Turn what the machine or a world refuses in mid-run, such as a full disk, into one line and exit status 1."""
    try:
        yield
    except OSError as error:
        fail(RuntimeError(f"{_one_line(error)}; remedy it, then go on with resume={run_dir}"), status=1)
    except distributed.PeerLostError as error:
        fail(
            distributed.PeerLostError(f"{error}; remedy what it says, then go on with resume={run_dir}"),
            status=1,
        )
    except WorldError as error:
        path = run_dir / "traceback.txt"
        path.write_text(error.trace)
        fail(RuntimeError(f"{error}; traceback in {path}"), status=1)


def fail(error: BaseException, *, status: int = 2) -> NoReturn:
    """Print the error as one line on stderr and exit; what all processes of a run would say, rank 0 says."""
    if distributed.rank() == 0 or not (status == 2 or isinstance(error, distributed.PeerLostError)):
        print(f"error: {_one_line(error)}", file=sys.stderr)
    raise SystemExit(status) from None


def validate_arguments(arguments: Sequence[str]) -> list[str]:
    """Return Hydra's arguments after composing and checking every job they ask for; nothing is written.

    `resume=...` is replaced by the overrides the run was started with, the new ones after them, and the run
    folder to write to.

    Raises:
        ValueError, HydraException, OmegaConfBaseException: the first mistake found.
    """
    flags = _parse_flags(arguments)
    overrides = [_quote_null(argument) for argument in _with_plugins(flags.overrides)]
    if _is_info_only(flags):
        resolved = dict(zip(flags.overrides, overrides, strict=True))
        return [resolved.get(argument, argument) for argument in arguments]
    if flags.multirun and distributed.size() > 1:
        raise ValueError(
            "-m: the processes that torchrun starts train one policy; run a sweep without torchrun"
        )
    parsed = [_parse_override(argument) for argument in overrides]
    swept = [str(override.key_or_group) for override in parsed if override.is_sweep_override()]
    if swept and not flags.multirun:
        raise ValueError(f"{swept[0]}: several values given; add -m to run one job for each")
    if any(override.key_or_group == "resume" and override.value() for override in parsed):
        if flags.multirun:
            raise ValueError("resume: a sweep cannot resume; resume its runs one by one")
        overrides = _resumed(overrides, parsed)
    for job in _jobs(overrides)[:_MAX_CHECKED_JOBS] if flags.multirun else [overrides]:
        cfg, run_dir = compose_config(job)
        if not flags.cfg:
            _check(cfg, run_dir)
    return [*(argument for argument in arguments if argument not in flags.overrides), *overrides]


def worker_job(arguments: Sequence[str]) -> TrainConfig | None:
    """Return the job that checked arguments ask a process beside rank 0 to take part in, None if they only print."""
    flags = _parse_flags(arguments)
    return None if _is_info_only(flags) or flags.cfg else compose_config(flags.overrides)[0]


def single_job(overrides: Sequence[str]) -> TrainConfig:
    """Return the configuration of one new job, checked as training checks it; nothing is written.

    Raises:
        ValueError, HydraException, OmegaConfBaseException: the first mistake found.
    """
    quoted = [_quote_null(override) for override in _with_plugins(overrides)]
    swept = [str(o.key_or_group) for o in map(_parse_override, quoted) if o.is_sweep_override()]
    if swept:
        raise ValueError(f"{swept[0]}: several values given; give one")
    cfg, _ = compose_config(quoted)
    if cfg.resume:
        raise ValueError(f"resume={cfg.resume}: there is nothing to resume here; leave it out")
    _check_parts(cfg)
    return cfg


def _with_plugins(overrides: Sequence[str]) -> list[str]:
    """Load all plug-ins, and return the overrides with the absolute paths of those in `plugins=[...]`."""
    resolved, files = plugins.resolve_overrides(overrides)
    options.load_plugins(files)
    return resolved


def _parse_flags(arguments: Sequence[str]) -> Namespace:
    """Return Hydra's flags, and the rest as `overrides`."""
    parser = get_args_parser()
    parser.error = _refuse_flags  # type: ignore[method-assign]
    flags = parser.parse_intermixed_args(arguments)
    if flags.config_path or flags.config_name or flags.config_dir or flags.experimental_rerun:
        _refuse_flags("configs of your own: put them in a folder and add hydra.searchpath=[file:///<folder>]")
    return flags


def _is_info_only(flags: Namespace) -> bool:
    """Say whether the flags ask for something of Hydra's that needs no job."""
    return bool(flags.help or flags.hydra_help or flags.info or flags.shell_completion)


def _refuse_flags(message: str) -> NoReturn:
    raise ValueError(f"{message}; --hydra-help lists the flags")


def _quote_null(argument: str) -> str:
    """Put the option `null` of a group in quotes: Hydra would take it for no choice at all."""
    group, _, choice = argument.partition("=")
    is_option = choice == "null" and group in options.GROUPS and choice in options.choices(group)
    return f"{group}='null'" if is_option else argument


def _parse_override(argument: str) -> Override:
    """Return one `key=value`, checked as far as it can be alone."""
    try:
        override = OverridesParser.create().parse_override(argument)
    except HydraException as error:
        raise ValueError(f"{argument}: give key=value, with special characters in quotes") from error
    key, value, is_sweep = override.key_or_group, override.value(), override.is_sweep_override()
    if not key or (argument.startswith(("+", "~")) and not key.startswith("hydra")):
        raise ValueError(
            f"{argument}: give key=value; keys are neither added nor removed, --cfg job lists them"
        )
    if is_sweep and not override.is_discrete_sweep():
        raise ValueError(f"{argument}: list the values of a sweep, or give a range(start,stop)")
    if key in options.GROUPS and not (is_sweep or isinstance(value, str)):
        raise ValueError(f"{argument}: choose one of {', '.join(options.choices(key))}")
    return override


def _jobs(overrides: list[str]) -> list[list[str]]:
    """Return the override lists of a sweep's jobs, as Hydra's basic sweeper makes them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    parsed = OverridesParser.create().parse_overrides(overrides)
    return [list(job) for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]


def compose_config(overrides: list[str]) -> tuple[TrainConfig, Path]:
    """Return the checked configuration and the folder Hydra would give the run."""
    overrides = _with_plugins(overrides)  # a resumed run has some of its own
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(options.CONF_DIR), version_base="1.3"):
        composed = compose("train", overrides=overrides, return_hydra_config=True)
        run_dir = Path(composed.hydra.run.dir)
    with open_dict(composed):
        del composed["hydra"]
    given = [override.partition("=")[0] for override in overrides]
    return config.from_hydra(composed, given=given), run_dir


def _check(cfg: TrainConfig, run_dir: Path) -> None:
    """Check what the schema cannot: folders, the run to resume, and that environment and gauges can be built."""
    check_writable(Path(cfg.output_root), key="output_root")
    check_writable(run_dir, key="hydra.run.dir")
    if cfg.resume:
        _check_resumable(cfg)
    _check_parts(cfg)


def _check_parts(cfg: TrainConfig) -> None:
    """Check that environment and gauges can be built, and that what is resumed fits."""
    from factory.energy.meter import Meter
    from factory.training.build import make_env, make_policy
    from factory.training.snapshot import load_tensors

    with contextlib.closing(make_env(cfg, num_envs=1)) as env:
        env.reset()
        if cfg.resume:
            load_tensors(cfg, checkpoint.load(Path(cfg.resume)), env, policy=make_policy(cfg, env))
    Meter.from_config(cfg.energy, cfg.device)


def check_writable(folder: Path, *, key: str) -> None:
    """Raise ValueError unless `folder` is a folder to write to, or one can be made there."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise ValueError(f"{key}={folder}: {existing} is a file; give a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"{key}={folder}: {existing} is not writable; give another folder")


def _check_resumable(cfg: TrainConfig) -> None:
    """Check that the checkpoint can be read and that no key is changed that cannot be."""
    stored = dict(flatten(checkpoint.load(Path(cfg.resume)).config))
    for key, value in flatten(config.to_plain(cfg)):
        if key.startswith(_FIXED) and key in stored and value != stored[key]:
            raise ValueError(f"{key}={value}: the run to resume has {stored[key]}; leave it as it is")


def _resumed(overrides: list[str], parsed: list[Override]) -> list[str]:
    """Return the overrides of the run to resume, followed by the new ones."""
    values = {str(o.key_or_group): str(o.value()) for o in parsed}
    output_root = Path(values.get("output_root", TrainConfig.output_root))
    run_dir = find_run(values["resume"], key="resume", output_root=output_root)
    stored_file = run_dir / ".hydra" / "overrides.yaml"
    stored = yaml.safe_load(stored_file.read_text()) if stored_file.is_file() else []
    kept = [o for o in stored if not o.lstrip("+~").startswith(("resume=", "hydra"))]
    new = [o for o in overrides if not o.startswith("resume=")]
    if "output_root" not in values:  # a relative one was meant from where the run was started
        given_root = checkpoint.load(run_dir).config["output_root"]
        new += [f"output_root='{folder}'" for folder in run_dir.parents if folder.match(given_root)][:1]
    folder = str(run_dir)
    return [*_without_replaced(kept, new), *new, f"resume='{folder}'", f"hydra.run.dir='{folder}'"]


def _without_replaced(stored: list[str], new: list[str]) -> list[str]:
    """Drop stored overrides whose key is given anew (a group may be chosen only once)."""
    keys = {override.partition("=")[0] for override in new}
    return [override for override in stored if override.partition("=")[0] not in keys]


def parse(schema: type[T], arguments: Sequence[str]) -> T:
    """Return the dataclass `schema` with `key=value` arguments put in.

    Raises:
        ValueError, OmegaConfBaseException: an argument is no `key=value`, or its key or value is wrong.
    """
    wrong = [argument for argument in arguments if "=" not in argument or argument.startswith("-")]
    if wrong:
        raise ValueError(f"{wrong[0]}: give key=value; --help lists the keys")
    arguments, _ = plugins.resolve_overrides(arguments)
    known = [field.name for field in fields(schema)]  # type: ignore[arg-type]
    unknown = [
        argument for argument in arguments if argument.partition("=")[0].partition(".")[0] not in known
    ]
    if unknown:
        raise ValueError(f"{unknown[0]}: no such key; choose one of {', '.join(known)}")
    merged = OmegaConf.merge(OmegaConf.structured(schema), *map(_value_given, arguments))
    missing = sorted(str(key) for key in OmegaConf.missing_keys(merged))
    if missing:
        raise ValueError(f"{missing[0]}: must be given; --help says how")
    return OmegaConf.to_object(merged)  # type: ignore[return-value]


def _value_given(argument: str) -> DictConfig:
    try:
        return OmegaConf.from_dotlist([argument])
    except yaml.YAMLError as error:
        raise ValueError(f"{argument}: give key=value, with special characters in quotes") from error


def find_run(name: str, *, key: str, output_root: Path) -> Path:
    """Return the folder of a run that has a checkpoint.

    Args:
        name: run folder, MLflow run id, or `last` for the newest.
        key: what the user called it, for the error message.
        output_root: where the runs are.

    Raises:
        ValueError: there is no such run, or it has no checkpoint.
    """
    found = (path for path in output_root.glob("**/checkpoints/last") if path.exists())
    pointers = sorted(found, key=lambda path: path.stat().st_mtime)
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
    raise ValueError(
        f"{key}={name}: no such run folder, and no run of that MLflow id under {output_root.absolute()}"
    )


def _one_line(error: BaseException) -> str:
    """Return the message on one line, in our words where Hydra's would mislead."""
    message, cause = str(error), str(error.__cause__).partition("\n")[0]
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.partition("/")
        known = (
            options.choices(group) if group in options.GROUPS else error.options
        )  # Hydra leaves out subfolders
        return f"{group}={choice}: choose one of {', '.join(known)}"
    if "hydra/launcher/submitit" in message:
        return "hydra/launcher=slurm: hydra-submitit-launcher is not installed; pip install -e '.[slurm]'"
    if message.startswith("Could not override") and " use +" in message:
        return _unknown_key(message.rpartition(" use +")[2])
    if message.startswith("Error merging override "):
        return f"{message.removeprefix('Error merging override ')}: {cause}"
    lines = [line.strip() for line in message.splitlines()]
    kept = [
        line
        for line in lines
        if line and not line.startswith(("full_key:", "object_type=", "reference_type="))
    ]
    keys = [line.partition(":")[2].strip() for line in lines if line.startswith("full_key:")]
    text = " ".join(kept) or type(error).__name__
    return f"{keys[0]}: {text}" if keys and keys[0] and keys[0] not in text else text


def _unknown_key(override: str) -> str:
    key = override.partition("=")[0]
    near = difflib.get_close_matches(key, (*options.GROUPS, *options.keys()))
    return f"{override}: no such key; " + (
        f"did you mean {' or '.join(near)}?" if near else "--cfg job lists them"
    )
