"""Errors of the command line: one line on stderr and an exit status."""

from __future__ import annotations

import contextlib
import copy
import errno
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from factory import options
from factory.cli.spelling import near_keys, near_names
from factory.envs.core.errors import WorldError
from factory.runtime import ranks
from factory.runtime.atomic_write import atomic_write
from factory.runtime.stored_files import visible
from factory.tracking.credentials import redacted
from factory.training import checkpoint_files
from factory.training.health import UnhealthyTrainingError

MISTAKES = (ValueError, WorldError, OverflowError, HydraException, OmegaConfBaseException)
"""Errors that stand for a mistake of the user's; their messages say what to do."""
_MAX_CHARACTERS = 4000
"""Longest message; a value in a stranger's file may be megabytes long."""


def show_warnings() -> None:
    """Print the package's warnings on stderr, one line each; as a library it is silent."""
    # A copy of the handler that finds standard error anew for every line.
    handler = copy.copy(logging.lastResort) or logging.StreamHandler()
    handler.setFormatter(_OneLine())
    logging.getLogger("factory").handlers = [handler]


class _OneLine(logging.Formatter):
    """Shows a message on one line, without passwords and control characters, which servers may send."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return redacted(visible(" ".join(text.splitlines())))


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a user's mistake into one line on stderr and exit status 2."""
    try:
        yield
    except MISTAKES as error:
        fail(error)
    except OSError as error:
        # A path that no file system takes is a mistake; everything else is the machine's fault.
        fail(error, status=2 if error.errno in (errno.ENAMETOOLONG, errno.ELOOP) else 1)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        fail(RuntimeError(_shortage(error)), status=1)


@contextlib.contextmanager
def one_line_faults(run_dir: Path) -> Iterator[None]:
    """Turn a failure of machine or environment, such as a full disk, into one line and exit status 1."""
    try:
        yield
    except OSError as error:
        if checkpoint_files.is_deleted(run_dir):
            fail(RuntimeError(f"{run_dir} was deleted while the run went on; start it again"), status=1)
        fail(RuntimeError(f"{one_line(error)}; remedy it, then go on with resume={run_dir}"), status=1)
    except ranks.PeerLostError as error:
        fail(ranks.PeerLostError(f"{error}; then go on with resume={run_dir}"), status=1)
    except UnhealthyTrainingError as error:
        fail(UnhealthyTrainingError(f"{error}; remove the cause, then go on with resume={run_dir}"), status=1)
    except WorldError as error:
        path = run_dir / "traceback.txt"
        # Renamed into its place, so that nothing is written through a link that stands there.
        with atomic_write(path) as unfinished:
            unfinished.write_text(error.trace)
        fail(RuntimeError(f"{error}; traceback in {path}{checkpoint_files.go_on(run_dir)}"), status=1)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        fail(RuntimeError(f"{_shortage(error)}{checkpoint_files.go_on(run_dir)}"), status=1)


def _is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out: of Python, or of torch's allocators, which raise `RuntimeError`."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return re.search(r"can't allocate memory|not enough memory|out of memory", str(error)) is not None


def _shortage(error: BaseException) -> str:
    """Return the line for memory that ran out."""
    # torch's message for a GPU has advice for its own users after the first sentence.
    reason = one_line(error).partition(". ")[0]
    return (
        f"memory ran out ({reason}); a smaller num_envs, learner.num_steps, runtime.eval_episodes, or smaller"
        " layers of the policy need less"
    )


@contextlib.contextmanager
def one_line_interrupts() -> Iterator[None]:
    """Turn an interrupt outside training into one line and exit status 130; SIGUSR1 does nothing there."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # Windows has neither SIGHUP nor SIGUSR1.
    handlers: dict[str, Any] = {"SIGTERM": interrupt, "SIGHUP": interrupt, "SIGUSR1": signal.SIG_IGN}
    known = {getattr(signal, name): handler for name, handler in handlers.items() if hasattr(signal, name)}
    previous = {number: signal.signal(number, handler) for number, handler in known.items()}
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def fail(error: BaseException, *, status: int = 2) -> NoReturn:
    """Print the error as one line on stderr and exit.

    An error that all processes of a run share, rank 0 prints.
    """
    is_shared = status == 2 or isinstance(error, (ranks.PeerLostError, UnhealthyTrainingError))
    # Compared as text, since a rank that is no number may be the very error; alone, nobody else prints.
    is_alone = "MASTER_ADDR" not in os.environ
    if is_alone or not is_shared or os.environ.get("RANK", "0") == "0":
        text = redacted(one_line(error))
        if len(text) > _MAX_CHARACTERS:
            text = f"{text[:_MAX_CHARACTERS]} ..."
        print(f"error: {text}", file=sys.stderr)
    raise SystemExit(status) from None


def one_line(error: BaseException) -> str:
    """Return the message of an error on one line, reworded where Hydra's would mislead."""
    message = visible(str(error))
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        return _unknown_choice(error.missing_cfg_file, error.options)
    if "hydra/launcher/submitit" in message:
        return "hydra/launcher=slurm: hydra-submitit-launcher is not installed; pip install -e '.[slurm]'"
    if message.startswith("Could not override") and " use +" in message:
        return _unknown_key(message.rpartition(" use +")[2])
    if message.startswith("Error merging override "):
        cause = str(error.__cause__).partition("\n")[0]
        return f"{message.removeprefix('Error merging override ')}: {cause}"

    # OmegaConf puts the key on a line of its own.
    lines = [line.strip() for line in message.splitlines()]
    details = ("full_key:", "object_type=", "reference_type=")
    kept = [line for line in lines if line and not line.startswith(details)]
    text = " ".join(kept) or type(error).__name__
    keys = [line.partition(":")[2].strip() for line in lines if line.startswith("full_key:")]
    if keys and keys[0] and keys[0] not in text:
        return f"{keys[0]}: {text}"
    return text


def _unknown_choice(config_file: str, hydra_options: Sequence[str]) -> str:
    """Return the line for an option that a group does not have, the nearest ones first."""
    group, _, choice = config_file.partition("/")
    if group == "hydra":
        # Hydra's own groups are nested.
        group, _, choice = config_file.rpartition("/")
    known: Sequence[str] = hydra_options
    if group in options.GROUPS:
        # Hydra leaves out options in subfolders.
        known = options.choices(group)
    near = near_names(choice, known)
    if near:
        others = [name for name in known if name not in near]
        return f"{group}={choice}: did you mean {' or '.join(near)}? Others: {', '.join(others)}"
    return f"{group}={choice}: choose one of {', '.join(known)}"


def _unknown_key(override: str) -> str:
    key = override.partition("=")[0]
    near = near_keys(key, (*options.GROUPS, *options.keys()))
    if key in near:
        group = key.partition(".")[0]
        return f"{override}: the chosen {group} has no such key; --cfg job lists those it has"
    if near:
        return f"{override}: no such key; did you mean {' or '.join(near)}?"
    return f"{override}: no such key; --cfg job lists them"
