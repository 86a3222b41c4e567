"""Worker processes of `task.vectorization=async`: calls with a time limit, and how they end."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import tempfile
import time
from typing import Any

import gymnasium

from factory.envs.core.errors import WorldError

_STACKS_WAIT_S = 1.0
"""Time that a worker has to write its stack [s]."""


class Workers:
    """Calls worker processes and waits for their answers, as long as `timeout_s` allows."""

    def __init__(self, env_id: str, *, timeout_s: float) -> None:
        """Prepare what workers inherit.

        Args:
            env_id: id of the environment, for messages.
            timeout_s: longest time without an answer [s]; 0 waits for ever.
        """
        self._env_id = env_id
        self._timeout_s = timeout_s
        self._parent = os.getpid()
        # Without a name: it needs no removal, and nobody else can put a link in its place.
        self._stacks: Any = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the workers live

    def __getstate__(self) -> dict[str, Any]:
        """Return what a worker that is not forked can take over."""
        return vars(self) | {"_stacks": None}

    def prepare(self, env: gymnasium.Env) -> gymnasium.Env:
        """Let a worker end when its parent says so, and write its stack when asked.

        Ctrl-C in a terminal reaches workers, too.
        """
        if os.getpid() != self._parent:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if self._stacks is not None:
                faulthandler.register(signal.SIGUSR2, file=self._stacks, all_threads=True)
        return env

    def call(self, inner: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call `step` or `reset` of a batch of worlds, whether it has workers or not.

        Raises:
            WorldError: a worker did not answer in time, or is gone.
        """
        if not getattr(inner, "processes", ()):
            return getattr(inner, name)(*args, **kwargs)
        try:
            getattr(inner, f"{name}_async")(*args, **kwargs)
            if self._timeout_s:
                self._await_answers(inner, name)
            return getattr(inner, f"{name}_wait")()
        except (EOFError, ConnectionError) as error:
            raise WorldError(f"env_id={self._env_id}: a world failed: {_fate(inner)}", trace="") from error

    def end(self, inner: Any) -> None:
        """End processes that cannot be asked to close, since one of them is gone or hangs."""
        # SIGTERM for those that still listen, SIGKILL a moment later for those that hang.
        for process in inner.processes:
            process.terminate()
        for process in inner.processes:
            process.join(_STACKS_WAIT_S)
            process.kill()
            process.join()
        inner.closed = True

    def _await_answers(self, inner: Any, name: str) -> None:
        """Wait until every worker has answered.

        Raises:
            WorldError: some have not in time; its trace is their stacks.
        """
        period_s = min(1.0, self._timeout_s / 10)
        waited_s = 0.0
        for pipe in inner.parent_pipes:
            while not pipe.poll(period_s):
                # Periods count, not a clock: while a signal stops the run, it stops the workers as well.
                waited_s += period_s
                if waited_s >= self._timeout_s:
                    self._refuse(inner, name)

    def _refuse(self, inner: Any, name: str) -> None:
        hung = [index for index, pipe in enumerate(inner.parent_pipes) if not pipe.poll(0)]
        named = ", ".join(f"{index} (process {inner.processes[index].pid})" for index in hung[:8])
        raise WorldError(
            f"env_id={self._env_id}: a world failed: {name} did not return within task.step_timeout_s="
            f"{self._timeout_s:g} in world {named}; mend the environment, or allow it more time",
            trace=self._stacks_of([inner.processes[index].pid for index in hung]),
        )

    def _stacks_of(self, pids: list[int]) -> str:
        """Return the stacks of worker processes, as far as they write them in time."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR2)
        end_s = time.monotonic() + _STACKS_WAIT_S
        size = -1
        # The worker's handler writes outside of Python, so it answers even in a loop of C code.
        while size <= 0 and time.monotonic() < end_s:
            time.sleep(0.1)
            size = os.fstat(self._stacks.fileno()).st_size
        self._stacks.seek(0)
        return self._stacks.read().decode(errors="replace")


def _fate(inner: Any) -> str:
    """Return which worker is gone, and why if that can be told."""
    for index, process in enumerate(inner.processes):
        process.join(_STACKS_WAIT_S)
        code = process.exitcode
        if code == -signal.SIGKILL:
            return (
                f"the process of world {index} was killed, perhaps because memory ran out; fewer worlds"
                " (num_envs) or task.vectorization=sync need less"
            )
        if code is not None and code < 0:
            return f"the process of world {index} was ended by {signal.Signals(-code).name}"
        if code is not None:
            return f"the process of world {index} ended with status {code}"
    return "a process of its worlds does not answer"
