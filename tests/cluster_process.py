"""A Ray cluster of several nodes on this machine, in a process of its own, for tests.

Run as a program, it reads commands from stdin as lines of JSON, {"add": CPUS, "environment": {...}} and
{"remove": ID}, and answers each with a line of JSON. At the end of stdin, the cluster ends.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

OBJECT_STORE_BYTES = 100 << 20


class Node(NamedTuple):
    id: str
    raylet_pid: int


class Cluster:
    """The other end: starts the process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        answer = self._answer()
        self.address: str = answer["address"]
        self.client_address: str = answer["client_address"]
        self.head = Node(*answer["node"])
        self.older = self.head
        """The node that tests hold to an older kind of processor."""
        self.nodes = [self.head]

    def add(self, cpus: int = 1, **environment: str) -> Node:
        """Add a node, whose processes get these environment variables."""
        node = Node(*self._ask({"add": cpus, "environment": environment})["node"])
        self.nodes.append(node)
        return node

    def remove(self, node: Node) -> None:
        """Let a node die."""
        self._ask({"remove": node.id})
        self.nodes.remove(node)

    def kill_head(self) -> None:
        """Kill the head's process that knows the cluster; Ray calls it the GCS."""
        for pid, command in _children(self._process.pid):
            if command.partition(b"\0")[0].endswith(b"/gcs_server"):
                os.kill(pid, signal.SIGKILL)

    def _ask(self, command: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process of the cluster has ended"
        return json.loads(line)


@contextmanager
def running_cluster(log: Path, *, cpus: int = 1, **environment: str) -> Iterator[Cluster]:
    """Start a cluster with a head node."""
    # Several clusters share this machine, and its memory may be short for reasons that are not theirs.
    variables = {
        **os.environ,
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONWARNINGS": "ignore",
        **environment,
    }
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, __file__, str(cpus)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=variables,
        )
        try:
            yield Cluster(process)
        finally:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.close()
            process.stdout.close()
            process.wait(60)


def tasks_of(node: Node) -> dict[int, str]:
    """Return the ids of the processes of a node that are in a task, and the names of the tasks."""
    found = {pid: command.decode(errors="replace") for pid, command in _children(node.raylet_pid)}
    return {pid: name for pid, name in found.items() if name.startswith("ray::subpixel: ")}


def workers_of(node: Node) -> list[int]:
    """Return the ids of the processes in which a node runs tasks."""
    return [pid for pid, command in _children(node.raylet_pid) if command.startswith(b"ray::")]


def _children(parent: int) -> Iterator[tuple[int, bytes]]:
    """Yield the ids and command lines of the processes that a process has started."""
    with contextlib.suppress(OSError):
        for thread in list(Path(f"/proc/{parent}/task").iterdir()):
            for child in (thread / "children").read_text().split():
                with contextlib.suppress(OSError):
                    yield int(child), Path(f"/proc/{child}/cmdline").read_bytes()


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Ray prints too
    import socket

    from ray.cluster_utils import Cluster as RayCluster

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        client_port = free.getsockname()[1]
    small: dict[str, Any] = {"object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    cluster = RayCluster(
        initialize_head=True,
        head_node_args={"num_cpus": int(sys.argv[1]), "ray_client_server_port": client_port, **small},
    )
    nodes: dict[str, Any] = {}

    def described(node: Any) -> Any:
        pid = node.all_processes["raylet"][0].process.pid
        nodes[node._node_id] = node
        return {"node": [node._node_id, pid]}

    def send(answer: Any) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    address, client = cluster.address, f"ray://127.0.0.1:{client_port}"
    send({"address": address, "client_address": client, **described(cluster.head_node)})
    for line in sys.stdin:
        command = json.loads(line)
        if "add" in command:
            added = cluster.add_node(num_cpus=command["add"], env_vars=command["environment"], **small)
            send(described(added))
        else:
            cluster.remove_node(nodes.pop(command["remove"]), allow_graceful=False)
            cluster.wait_for_nodes()  # else the next test may meet it
            send({})
    cluster.shutdown()


if __name__ == "__main__":
    main()
