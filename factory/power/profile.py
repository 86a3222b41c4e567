"""A power profile in force: settings are changed when a job starts, and put back when it ends."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from factory.energy.sources.base import SourceUnavailable
from factory.energy.sources.nvml_devices import find_foreign_pids, visible_gpus
from factory.power import registry
from factory.power.actuator import Actuator, Applied, Refused
from factory.power.board import Board, BoardActuator
from factory.power.config import ProfileConfig
from factory.power.journal import Journal
from factory.power.recovery import put_back_leftovers
from factory.power.session import nvml_session
from factory.runtime import ranks

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PowerProfile:
    """Settings that a profile changed."""

    cfg: ProfileConfig
    applied: tuple[Applied, ...]
    notes: tuple[str, ...]
    """Lines for the user: values asked for and in force, and settings that were refused."""
    _undo: contextlib.ExitStack

    def tags(self, *, mean_power: str = "") -> dict[str, str]:
        """Return the tags of a run under this profile.

        Args:
            mean_power: mean power of a run with a limit, once it is known.
        """
        asked = [f"{entry.actuator} {entry.asked}" for entry in self.applied]
        enforced = [f"{entry.actuator} {entry.enforced}" for entry in self.applied]
        if self.cfg.watts:
            asked.append(f"mean_power {self.cfg.watts:g} W")
        if mean_power:
            enforced.append(f"mean_power {mean_power}")
        tags = {
            "power/profile": self.cfg.name,
            "power/asked": "; ".join(asked),
            "power/enforced": "; ".join(enforced),
        }
        return {key: value for key, value in tags.items() if value}

    def restore(self) -> None:
        """Put every setting back; safe to call twice. A setting that cannot be put back stays journaled."""
        self._undo.close()


def start_profile(
    cfg: ProfileConfig, *, device: str, lib: Any = None, journal: Journal | None = None
) -> PowerProfile:
    """Put back what killed processes left changed, then change the settings that a profile asks for.

    A setting that this machine lacks or refuses is no error; a note says so.

    Args:
        cfg: the profile.
        device: `cpu`, or `cuda` for a job whose GPU the profile may set.
        lib: a module like `pynvml`; the installed one if None.
        journal: where changed settings are written down first; the user's own if None.
    """
    journal = journal or Journal()
    notes = [leftover.text for leftover in put_back_leftovers(journal, lib=lib)]
    applied: list[Applied] = []
    undo = contextlib.ExitStack()
    for kind in registry.PROCESS:
        applied += _change(kind(), cfg, undo, notes)
    board_actuators = [kind for kind in registry.BOARD.values() if kind.asks(cfg)]
    if board_actuators and device.startswith("cuda"):
        try:
            applied += _change_board(cfg, board_actuators, undo, notes, lib=lib, journal=journal)
        except (Refused, SourceUnavailable, ValueError) as reason:
            notes.append(f"profile={cfg.name}: the GPU is left alone: {reason}")
    notes += [
        f"profile={cfg.name}: {entry.actuator} asked {entry.asked}, enforced {entry.enforced}"
        for entry in applied
    ]
    return PowerProfile(cfg=cfg, applied=tuple(applied), notes=tuple(notes), _undo=undo)


def _change(
    actuator: Actuator, cfg: ProfileConfig, undo: contextlib.ExitStack, notes: list[str]
) -> list[Applied]:
    """Change one setting if the profile asks for it; a refusal becomes a note.

    Returns:
        The setting, or nothing.
    """
    if not actuator.asks(cfg):
        return []
    try:
        entry = actuator.apply(cfg)
    except Refused as reason:
        notes.append(f"profile={cfg.name}: {reason}")
        return []
    undo.callback(_restore, actuator)
    return [entry]


def _change_board(
    cfg: ProfileConfig,
    kinds: Sequence[type[BoardActuator]],
    undo: contextlib.ExitStack,
    notes: list[str],
    *,
    lib: Any,
    journal: Journal,
) -> list[Applied]:
    """Change the first setting of the process's GPU that its board accepts.

    Returns:
        The setting, or nothing.

    Raises:
        Refused, SourceUnavailable, ValueError: the board must be left alone.
    """
    with contextlib.ExitStack() as held:
        library = held.enter_context(nvml_session(lib))
        board = _own_board(library)
        page = held.enter_context(contextlib.closing(journal.claim(board.uuid)))
        if page.read() is not None:
            raise Refused(f"an earlier change of {board.uuid} is not put back yet")
        for kind in kinds:
            applied = _change(kind(board, page), cfg, held, notes)
            if applied:
                # Library and page stay open until the setting is put back.
                undo.callback(held.pop_all().close)
                return applied
    return []


def _own_board(lib: Any) -> Board:
    """Return the board on which this process computes, provided that nobody else does.

    Raises:
        Refused: others compute on it, or NVML fails.
        SourceUnavailable: there is none.
    """
    try:
        # A setting of a board holds for everybody who computes on it.
        (gpu,), _ = visible_gpus(lib, os.environ, indices=[ranks.local_rank()])
        others = find_foreign_pids(lib, gpu.handle, None)
    except lib.NVMLError as error:
        raise Refused(f"NVML: {error}") from error
    if gpu.is_mig:
        raise Refused(f"{gpu.uuid} is divided (MIG), and its settings are those of all slices")
    if others:
        raise Refused(f"others compute on {gpu.uuid}: processes {', '.join(map(str, others))}")
    return Board(lib, gpu.handle, gpu.uuid)


def _restore(actuator: Actuator) -> None:
    try:
        actuator.restore()
    except (Refused, ValueError) as reason:
        # The job is over, and a setting of a board stays in the journal for the next start.
        _logger.warning("%s; the next start tries again", reason)
