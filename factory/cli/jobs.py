"""The training jobs that a command line asks for, composed and checked before anything is written."""

from __future__ import annotations

import contextlib
import copy
import shutil
import warnings
from argparse import Namespace
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NoReturn

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from factory import config, options, plugins, tracking
from factory.cli import spelling
from factory.cli.outputs import check_writable
from factory.cli.runs import resumed_config, resumed_overrides, with_start_found
from factory.cli.variables import check_variables
from factory.config import TrainConfig
from factory.power import process
from factory.registry import ROBOTS
from factory.reporting.waiting import waiting
from factory.runtime import ranks, stored_files
from factory.tracking import credentials
from factory.training import sweep
from factory.validation import require

_MOST_JOBS = 10_000
"""Most jobs of one command."""
_MAX_CHECKED_JOBS = 64
"""Jobs of a sweep that are checked before the first one starts."""


def validate_arguments(arguments: Sequence[str]) -> list[str]:
    """Return Hydra's arguments after composing and checking every job they ask for; nothing is written.

    `resume=...` is replaced by the components of the run, the other overrides, and the folder to write to.

    Raises:
        ValueError, HydraException, OmegaConfBaseException: the first mistake found.
    """
    check_variables()
    arguments = spelling.join_flags(arguments, (*options.GROUPS, *options.keys()))
    flags = _parse_flags(arguments)
    overrides = _spelled_out(_with_plugins(flags.overrides))
    if _is_info_only(flags):
        resolved = dict(zip(flags.overrides, overrides, strict=True))
        return [resolved.get(argument, argument) for argument in arguments]
    if flags.multirun and ranks.size() > 1:
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
        overrides = resumed_overrides(overrides, parsed)
    else:
        overrides = with_start_found(overrides, parsed)
    jobs = [overrides]
    sweep.forget()
    if flags.multirun:
        for override in parsed:
            is_slurm = override.key_or_group == "hydra/launcher" and "slurm" in str(override.value())
            has_slurm = not is_slurm or shutil.which("srun") is not None
            require(
                has_slurm, "hydra/launcher", override.value(), "no srun here; start it on a Slurm cluster"
            )
        jobs = _jobs(overrides)
        overrides += sweep.fixed_folder(overrides, swept, compose_config(jobs[0])[0])
        if not flags.cfg:
            check_writable(_sweep_dir(overrides, jobs[0]), key="hydra.sweep.dir")
        sweep.announce_jobs(len(jobs))
    for job in jobs[:_MAX_CHECKED_JOBS]:
        cfg, run_dir = compose_config(job)
        if flags.package and flags.cfg == "job":
            has_package = OmegaConf.select(_compose(job), flags.package) is not None
            require(has_package, "--package", flags.package, "no such part of the job; --cfg job lists all")
        if not flags.cfg:
            _check(cfg, run_dir)
            # Hydra writes into the folder before anything else does.
            stored_files.detach(run_dir)
        overrides += _public_uri(cfg, overrides)
    return [*(argument for argument in arguments if argument not in flags.overrides), *overrides]


def _public_uri(cfg: TrainConfig, overrides: Sequence[str]) -> list[str]:
    """Return the override that keeps a password out of the files in which Hydra stores a configuration.

    A file of the user's, such as one that `hydra.searchpath` finds, may name a URI with one. `TrackingConfig`
    has taken it away, but Hydra stores what it has composed.
    """
    public = cfg.tracking.uri
    is_given = any(override.startswith("tracking.uri=") for override in overrides)
    if cfg.resume or is_given or credentials.complete(public) == public:
        return []
    return [f"tracking.uri={spelling.quoted(public)}"]


def worker_job(arguments: Sequence[str]) -> TrainConfig | None:
    """Return the job of a process beside rank 0, from checked arguments.

    None if they only print something.
    """
    flags = _parse_flags(arguments)
    if _is_info_only(flags) or flags.cfg:
        return None
    cfg, _ = compose_config(flags.overrides)
    return cfg


def single_job(overrides: Sequence[str]) -> TrainConfig:
    """Return the configuration of one new job, checked as training checks it; nothing is written.

    Raises:
        ValueError, HydraException, OmegaConfBaseException: the first mistake found.
    """
    quoted = spelled(overrides)
    parsed = [_parse_override(argument) for argument in quoted]
    for override in parsed:
        if override.is_sweep_override():
            raise ValueError(f"{override.key_or_group}: several values given; give one")
        # Before composing, which would look for the checkpoint.
        if override.key_or_group == "resume" and override.value():
            raise ValueError(f"resume={override.value()}: this command cannot resume a run; leave it out")
    cfg, _ = compose_config(with_start_found(quoted, parsed))
    _check_parts(cfg)
    return cfg


def spelled(overrides: Sequence[str]) -> list[str]:
    """Return arguments of training as Hydra takes them, with the plug-ins they name loaded."""
    return _spelled_out(_with_plugins(spelling.join_flags(overrides, options.keys())))


def several_jobs(overrides: Sequence[str]) -> list[tuple[list[str], TrainConfig]]:
    """Return overrides and configuration of each job of a sweep, or of the only one; nothing is written.

    Raises:
        ValueError, HydraException, OmegaConfBaseException: the first mistake found.
    """
    arguments = spelled(overrides)
    parsed = [_parse_override(argument) for argument in arguments]
    swept = [override.key_or_group for override in parsed if override.is_sweep_override()]
    jobs = _jobs(with_start_found(arguments, parsed))
    composed = None
    configs: list[TrainConfig] = []
    for job in jobs:
        if composed is None or set(swept) & set(options.GROUPS):
            composed = _compose(job)
        configs.append(job_config(_with_values(composed, job, swept), job))
    for cfg in configs[:_MAX_CHECKED_JOBS]:
        _check_parts(cfg)
    return list(zip(jobs, configs, strict=True))


def _with_values(composed: DictConfig, job: Sequence[str], swept: Sequence[str]) -> DictConfig:
    """Return what Hydra would compose of a job that differs from a composed one in some values only.

    Composing takes a tenth of a second, which a sweep of a thousand jobs would feel.
    """
    changed = copy.deepcopy(composed)
    for override in OverridesParser.create().parse_overrides(list(job)):
        if override.key_or_group in swept and override.key_or_group not in options.GROUPS:
            OmegaConf.update(changed, override.key_or_group, override.value())
    return changed


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
    if (flags.resolve or flags.package) and not flags.cfg:
        _refuse_flags("--resolve and --package: only with --cfg")
    return flags


def _is_info_only(flags: Namespace) -> bool:
    """Say whether the flags ask for something of Hydra's that needs no job."""
    return bool(flags.help or flags.hydra_help or flags.info or flags.shell_completion)


def _refuse_flags(message: str) -> NoReturn:
    raise ValueError(f"{message}; --hydra-help lists the flags")


def _spelled_out(overrides: Sequence[str]) -> list[str]:
    """Return overrides as Hydra takes them: names of options, integers, lists and the option `null`."""
    spelled: list[str] = []
    for argument in spelling.fit_values(overrides, options.types()):
        key, equals, value = argument.partition("=")
        if key == "task":
            names = [spelling.task_name(name, options.choices("task")) for name in value.split(",")]
            value = ",".join(names)
        if key == "robot":
            value = ",".join(spelling.robot_name(name, tuple(ROBOTS)) for name in value.split(","))
        if key == "tracking.uri":
            # Hydra stores the overrides with the run.
            bare = value.strip("'\"")
            public = credentials.take_away(bare)
            if public != bare:
                value = f"'{public}'"
        if value == "null" and key in options.GROUPS and "null" in options.choices(key):
            # Hydra would take a bare null for no choice at all.
            value = "'null'"
        spelled.append(f"{key}{equals}{value}")
    return spelled


def _parse_override(argument: str) -> Override:
    """Return one `key=value`, checked as far as it can be alone."""
    try:
        override = OverridesParser.create().parse_override(argument)
    except HydraException as error:
        raise ValueError(f"{argument}: give key=value, with special characters in quotes") from error
    key = override.key_or_group
    value = override.value()
    is_sweep = override.is_sweep_override()
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
    number = 1
    for override in parsed:
        if override.is_sweep_override():
            # Counted as far as it matters: a range may have more values than the memory holds.
            number *= sum(1 for _ in islice(override.sweep_iterator(), _MOST_JOBS + 1))
            if number > _MOST_JOBS:
                raise ValueError(f"{override.input_line}: more than {_MOST_JOBS:,} jobs; give fewer values")
    return [list(job) for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]


def _sweep_dir(overrides: Sequence[str], job: list[str]) -> Path:
    """Return the folder of a sweep, whose first job is given."""
    prefix = "hydra.sweep.dir="
    given = [override for override in overrides if override.startswith(prefix)]
    return Path(_compose([*job, *given], with_hydra=True).hydra.sweep.dir)


def compose_config(overrides: list[str]) -> tuple[TrainConfig, Path]:
    """Return the checked configuration and the folder Hydra would give the run."""
    overrides = _with_plugins(overrides)
    composed = _compose(overrides, with_hydra=True)
    job = composed.copy()
    with open_dict(job):
        del job["hydra"]
    # First, since the folder is named after settings of the job, which may be wrong.
    cfg = job_config(job, overrides)
    require(bool(composed.hydra.run.dir), "hydra.run.dir", "", "name a folder")
    return cfg, Path(composed.hydra.run.dir)


def _compose(overrides: list[str], *, with_hydra: bool = False) -> DictConfig:
    """Return what Hydra composes of overrides, with its own settings if wanted."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(options.CONF_DIR), version_base="1.3"), warnings.catch_warnings():
        # Hydra only warns of a folder that is not there, and goes on without its options.
        warnings.filterwarnings("error", message="provider=hydra.searchpath")
        try:
            return compose("train", overrides=overrides, return_hydra_config=with_hydra)
        except UserWarning as warning:
            path = str(warning).partition("path=")[2]
            raise ValueError(f"hydra.searchpath={path.rstrip('.')} Give file:///<folder>") from warning


def job_config(composed: DictConfig, overrides: Sequence[str]) -> TrainConfig:
    """Return the checked configuration of a job from what Hydra composed of its overrides.

    Raises:
        ValueError, OmegaConfBaseException: a value is wrong.
    """
    if composed.resume:
        return resumed_config(composed, overrides)
    # Before anything loads torch.
    process.prepare(composed.profile.spin)
    return config.from_hydra(composed, given=[override.partition("=")[0] for override in overrides])


def _check(cfg: TrainConfig, run_dir: Path) -> None:
    """Check what the schema cannot: folders, the run to resume, and the environment and energy sources."""
    check_writable(Path(cfg.output_root), key="output_root")
    check_writable(run_dir, key="hydra.run.dir")
    tracking.check_store(cfg.tracking, output_root=Path(cfg.output_root))
    database = tracking.sqlite_path(cfg.tracking.uri)
    if database is not None:
        check_writable(database.parent, key="tracking.uri")
    _check_parts(cfg)


def _check_parts(cfg: TrainConfig) -> None:
    """Check that environment and energy sources can be opened, and that the checkpoint to begin with fits."""
    process.prepare(cfg.profile.spin)
    # A mistake may follow, and shall be the only line.
    with waiting("check the job", lines=False):
        # Only a configuration that is otherwise correct is worth the seconds in which torch and MuJoCo are
        # loaded.
        from factory.energy.meter import Meter
        from factory.training import checkpoint, fit, memory, warm_start
        from factory.training.build import make_env, make_policy
        from factory.training.snapshot import load_tensors

        found = None
        if cfg.resume:
            found = checkpoint.load(Path(cfg.resume))
            fit.check_size(found.config["policy"], found.tensors.get("policy", {}))
        with contextlib.closing(make_env(cfg, num_envs=cfg.task.agents_per_world)) as env:
            policy = make_policy(cfg, env)
            cfg.learner.check_policy(policy, num_envs=cfg.num_envs // ranks.size())
            memory.check(cfg, env, policy)
            if found:
                load_tensors(cfg, found, env, policy=policy)
            elif cfg.start_from:
                warm_start.load(cfg, policy)
        Meter.from_config(cfg.energy, cfg.device)
