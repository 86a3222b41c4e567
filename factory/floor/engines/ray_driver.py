"""Process that speaks with Ray for a floor: `python -m factory.floor.engines.ray_driver <JSON options>`.

Ray ends a process that is attached to it when its cluster dies, and may block it for a minute. Neither must
happen to the floor, so it asks this process: one JSON line a question on standard input, one an answer on
standard output. The process ends with the floor; the lines do not.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from factory.floor.engines.ray_cluster import OwnCluster
from factory.floor.engines.ray_node import Agent, Holder
from factory.floor.lines import Handle

_ANSWER_S = 5.0


class Driver:
    """Answers the questions of a floor; each public method is one."""

    def __init__(self, root: str, address: str, *, is_shared: bool) -> None:
        """Attach to a cluster.

        Args:
            root: folder of the floor.
            address: `HOST:PORT` of the cluster.
            is_shared: whether it may have nodes on other hosts.

        Raises:
            ConnectionError: no cluster answers.
        """
        # Ray reads its settings when it is imported, and a cluster of our own makes some.
        import ray

        # Floors that share a cluster have namespaces of their own for the names of their actors.
        digest = hashlib.sha256(root.encode()).hexdigest()[:16]
        ray.init(
            address=address, namespace=f"floor-{digest}", log_to_driver=False, logging_level=logging.ERROR
        )
        self._ray = ray
        self._is_shared = is_shared
        self._agents: dict[str, Any] = {}

    def nodes(self) -> list[dict[str, Any]]:
        """Return the resources of each node that is alive, and see that it can answer for its lines."""
        alive = [node for node in self._ray.nodes() if node["Alive"]]
        for node in alive:
            if self._is_shared:
                self._agent(node["NodeID"])
        return [_resources(node["Resources"]) for node in alive]

    def free(self) -> list[dict[str, Any]]:
        """Return the resources that are left on each node."""
        return [_resources(free) for free in self._ray._private.state.available_resources_per_node().values()]

    def start(self, folder: str, cores: float, memory_bytes: int, gpus: int) -> None:
        """Have an attempt started where there is room, now or later; its name is taken only once."""
        path = Path(folder)
        self._ray.remote(Holder).options(
            name=f"{path.parent.name}/{path.name}",
            lifetime="detached",
            num_cpus=cores,
            num_gpus=gpus,
            memory=memory_bytes,
            max_restarts=0,
            max_task_retries=0,
        ).remote(folder, gpus)

    def act(self, verb: str, handle: dict[str, Any], arguments: list[Any]) -> bool | None:
        """Have an agent do something to an attempt on its own host.

        Returns:
            True if the attempt has processes, False if it has none, None if its host does not answer.
        """
        there = [node for node in self._ray.nodes() if node["NodeManagerHostname"] == handle["host"]]
        alive = [node["NodeID"] for node in there if node["Alive"]]
        if not alive:
            return False if there else None
        is_known = True
        for node in alive:
            # Hosts may share a name, and nodes a host: one of them does it, and only once.
            found = self._ask(node, "is_alive", handle)
            if found:
                if verb != "is_alive":
                    self._ask(node, verb, handle, *arguments)
                return True
            is_known = is_known and found is not None
        return False if is_known else None

    def meter(
        self, host: str, since: dict[str, Any] | None, running: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Read the meter of a host through one of its nodes; return None if none of them answers."""
        for node in self._ray.nodes():
            if node["Alive"] and node["NodeManagerHostname"] == host:
                found: dict[str, Any] | None = self._call(node["NodeID"], "meter", since, running)
                if found is not None:
                    return found
        return None

    def _ask(self, node: str, verb: str, handle: dict[str, Any], *arguments: Any) -> Any:
        """Return the answer of the agent on a node about an attempt, None if it has none."""
        return self._call(node, verb, Handle(**handle), *arguments)

    def _call(self, node: str, verb: str, *arguments: Any) -> Any:
        try:
            method = getattr(self._agent(node), verb)
            return self._ray.get(method.remote(*arguments), timeout=_ANSWER_S)
        except self._ray.exceptions.GetTimeoutError:
            return None
        except self._ray.exceptions.RayError:
            # Its successor answers the next question.
            del self._agents[node]
            return None

    def close(self) -> None:
        """Leave the cluster; the attempts stay."""
        self._ray.shutdown()

    def _agent(self, node: str) -> Any:
        """Return the actor that acts on a node; it occupies nothing and ends with this process."""
        if node not in self._agents:
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            place = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
            agent = self._ray.remote(num_cpus=0, max_restarts=0)(Agent)
            self._agents[node] = agent.options(scheduling_strategy=place).remote()
        return self._agents[node]


def _resources(found: dict[str, float]) -> dict[str, Any]:
    return {
        "cores": found.get("CPU", 0.0),
        "memory_bytes": int(found.get("memory", 0.0)),
        "gpus": int(found.get("GPU", 0.0)),
    }


def main() -> None:
    """Attach to a cluster, or start one, and answer until standard input ends."""
    # Libraries print; the answers keep the way out to themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    root, address, cores, memory_bytes = json.loads(sys.argv[1])
    with contextlib.ExitStack() as stack:
        try:
            where = address
            if where is None:
                own = OwnCluster(Path(root), cores=cores, memory_bytes=memory_bytes)
                stack.callback(own.stop)
                os.environ.update(own.environment)
                where = own.address
            driver = Driver(root, where, is_shared=address is not None)
            stack.callback(driver.close)
        except Exception as error:
            _write(answers, {"error": _one_line(error)})
            return
        _write(answers, {"value": None})
        for line in sys.stdin:
            verb, arguments = json.loads(line)
            try:
                answer = {"value": getattr(driver, verb)(*arguments)}
            except Exception as error:
                answer = {"error": _one_line(error)}
            _write(answers, answer)


def _write(answers: TextIO, content: dict[str, Any]) -> None:
    answers.write(json.dumps(content) + "\n")
    answers.flush()


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


if __name__ == "__main__":
    main()
