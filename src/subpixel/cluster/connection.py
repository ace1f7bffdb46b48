"""Connections to a Ray cluster."""

import contextlib
import importlib.util
import logging
import os
import re
import signal
import socket
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from subpixel.engines.select import available_cpus
from subpixel.errors import ClusterError

_LOCAL_OBJECT_STORE_BYTES = 100 << 20
"""Near the smallest that Ray accepts. Only small results pass through it."""

_MAX_BASE_BYTES = 25

_REACHABLE_SECONDS = 10.0

_CLIENT_TRIES = 3
"""For each driver outside of a cluster, the head node starts a process. It fails if its port is taken, or if
it takes too long; the next one gets another port."""

_HOST_AND_PORT = re.compile(r"(ray://)?[^/\s:]+(:[^/\s:]+)*:\d{1,5}/?\Z")


class Node(NamedTuple):
    """One machine of the cluster."""

    id: str
    cpus: float
    host: str


@contextmanager
def connect(address: str) -> Iterator[None]:
    """Connect to a cluster during the body.

    A process that is connected already, as in a notebook after ``ray.init()``, keeps its connection, whatever
    the address.

    Args:
        address: "auto" for the cluster that this machine belongs to, "local" for one that is started on this
            machine, ``host:port`` for the cluster with this head node that this machine belongs to, or
            ``ray://host:port`` for one that it does not belong to.

    Raises:
        ValueError: the address has another form.
        ClusterError: Ray is not installed, or there is no cluster.
    """
    check_address(address)
    _check_installed(address)
    with _environment():
        import ray

        if ray.is_initialized():
            yield
            return
        with _session_folder() as folder, _silenced_messages(address):
            with _sigterm_handler_kept():
                _initialize(address, folder)
            try:
                yield
            finally:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of files that Ray leaves open
                    ray.shutdown()


def check_address(address: str) -> None:
    """Raise ValueError unless `connect` knows this form of address."""
    if address not in ("auto", "local") and not _HOST_AND_PORT.match(address):
        raise ValueError(
            f"{address!r} is no address of a cluster; known: auto, local, HOST:PORT (such as head:6379), "
            "ray://HOST:PORT (such as ray://head:10001)"
        )


def nodes() -> list[Node]:
    """Return the machines of the cluster that are alive and have CPUs for tasks."""
    import ray

    return [
        Node(node["NodeID"], node["Resources"]["CPU"], node["NodeManagerHostname"])
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"] and node["Resources"].get("CPU")
    ]


def _check_installed(address: str) -> None:
    if importlib.util.find_spec("ray") is None:
        raise ClusterError("a cluster needs the package ray: run `pip install 'subpixel[cluster]'`")
    if address.startswith("ray://") and importlib.util.find_spec("grpc") is None:
        raise ClusterError(f"{address}: needs the package grpcio: run `pip install 'ray[client]'`")


def _initialize(address: str, session_folder: str) -> None:
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": True, "logging_level": "CRITICAL"}
    if address == "local":
        options.update(
            num_cpus=available_cpus(),
            object_store_memory=_LOCAL_OBJECT_STORE_BYTES,
            include_dashboard=False,
            _temp_dir=session_folder,
        )
    elif address.startswith("ray://"):
        options = {}  # the others are for the process that Ray starts on the head node
    try:
        _check_reachable(address)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error says it
            for left in reversed(range(_CLIENT_TRIES)):
                try:
                    ray.init(address, **options)
                    break
                except ConnectionAbortedError:
                    if not left:
                        raise
    except (RuntimeError, OSError, ValueError) as error:
        reason = str(error).strip().rpartition("\n")[2]  # Ray's may be a whole traceback
        raise ClusterError(f"{address}: no connection to a cluster; {_cure(address)} ({reason})") from error


def _check_reachable(address: str) -> None:
    """Raise OSError at once if nothing listens at an address, for which Ray waits half a minute."""
    host, _, port = address.removeprefix("ray://").rstrip("/").rpartition(":")
    if host:
        socket.create_connection((host, int(port)), _REACHABLE_SECONDS).close()


def _cure(address: str) -> str:
    if address == "auto":
        return "start one with `ray start --head`, or use the address local"
    if address == "local":
        return "Ray could not be started on this machine"
    if address.startswith("ray://"):
        return "check host and port (10001 by default), and that the head node has ray[client]"
    return (
        "check host and port (6379 by default). This machine must belong to the cluster; from outside, use "
        "ray://HOST:10001. If `ray start` said that token authentication is enabled, set RAY_AUTH_MODE=token"
    )


@contextmanager
def _session_folder() -> Iterator[str]:
    """Yield a folder for sockets and logs of a cluster on this machine; Ray would leave them in /tmp/ray."""
    # The paths of sockets have at most 107 bytes, and Ray adds 60.
    base = tempfile.gettempdir() if len(os.fsencode(tempfile.gettempdir())) < _MAX_BASE_BYTES else "/tmp"
    with tempfile.TemporaryDirectory(prefix="subpixel-", dir=base, ignore_cleanup_errors=True) as folder:
        yield folder


@contextmanager
def _environment() -> Iterator[None]:
    """Set what Ray reads from the environment: no statistics are sent, and none of its hints are printed."""
    defaults = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_IGNORE_UNHANDLED_ERRORS": "1",
        "GRPC_VERBOSITY": "NONE",
    }
    added = [name for name in defaults if name not in os.environ]
    os.environ.update({name: defaults[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _sigterm_handler_kept() -> Iterator[None]:
    """Undo that Ray replaces the handler of SIGTERM when it connects."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if in_main_thread and before is not None:
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _silenced_messages(address: str) -> Iterator[None]:
    """Keep Ray from printing reports of dead workers on stdout, where results are, and notes on stderr.

    A client also prints what the process prints and logs that serves it on the head node.
    """
    from ray._private import worker

    notes = logging.getLogger("ray.client_builder")
    with contextlib.ExitStack() as restored:
        restored.callback(setattr, worker, "_worker_logs_enabled", worker._worker_logs_enabled)
        worker._worker_logs_enabled = False
        if address.startswith("ray://"):
            from ray.util.client.logsclient import LogstreamClient

            for name in ("stdstream", "log"):
                restored.callback(setattr, LogstreamClient, name, getattr(LogstreamClient, name))
                setattr(LogstreamClient, name, lambda self, level, msg: None)
            restored.callback(notes.setLevel, notes.level)
            notes.setLevel(logging.WARNING)
        yield
