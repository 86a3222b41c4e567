"""The floor's end of the process that speaks with Ray."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from factory.floor.engines.ray_cluster import end_with_parent

_ANSWER_S = 10.0
_RETRY_S = 10.0
_STOP_S = 30.0


class RayClient:
    """Asks a driver process, and starts another one when it is gone."""

    def __init__(self, options: list[Any], log: Path) -> None:
        """Start the driver; it attaches to its cluster meanwhile.

        Args:
            options: arguments of the driver.
            log: file for its messages.
        """
        self._options = options
        self._log = log
        self._spawn()

    def wait_until_ready(self, limit_s: float) -> None:
        """Wait until the driver is attached.

        Raises:
            ConnectionError: it could not attach in time.
        """
        self._receive(limit_s)
        self._is_ready = True

    def ask(self, verb: str, *arguments: Any) -> Any:
        """Return the driver's answer.

        Raises:
            ConnectionError: Ray does not answer at the moment.
        """
        if self._driver.poll() is not None:
            self._revive()
        if not self._is_ready:
            self.wait_until_ready(0.0)
        question = json.dumps([verb, arguments]) + "\n"
        assert self._driver.stdin is not None
        try:
            self._driver.stdin.write(question.encode())
        except OSError as error:
            raise ConnectionError(f"Ray's driver has ended; {self._log} says why") from error
        return self._receive(_ANSWER_S)

    def close(self) -> None:
        """End the driver, and with it the cluster it started, if any."""
        assert self._driver.stdin is not None
        self._driver.stdin.close()
        try:
            self._driver.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._end()

    def _spawn(self) -> None:
        self._is_ready = False
        self._since_s = time.monotonic()
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._driver = subprocess.Popen(
                [sys.executable, "-m", "factory.floor.engines.ray_driver", json.dumps(self._options)],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                # Ctrl-C is meant for the floor, which ends this process itself.
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    def _revive(self) -> None:
        """Start another driver, not too often; it is ready some questions later."""
        # A driver that ends at once would otherwise be started at every question.
        if time.monotonic() - self._since_s > _RETRY_S:
            self._end()
            self._spawn()
        else:
            raise ConnectionError(f"Ray's driver has ended; {self._log} says why")

    def _receive(self, limit_s: float) -> Any:
        assert self._driver.stdout is not None
        readable, _, _ = select.select([self._driver.stdout], [], [], limit_s)
        if not readable:
            if self._is_ready:
                # A late answer would be taken for that to the next question.
                self._driver.kill()
            raise ConnectionError("Ray does not answer")
        line = self._driver.stdout.readline()
        if not line:
            raise ConnectionError(f"Ray's driver has ended; {self._log} says why")
        answer = json.loads(line)
        if "error" in answer:
            raise ConnectionError(answer["error"])
        return answer["value"]

    def _end(self) -> None:
        self._driver.kill()
        self._driver.wait()
        for pipe in (self._driver.stdin, self._driver.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
