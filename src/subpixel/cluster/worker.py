"""What runs on the machines of a cluster: a task in a process of Ray's."""

import importlib.metadata
import os
import pickle
import socket
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import subpixel

_PROGRESS_SECONDS = 1.0
_ACKNOWLEDGE_SECONDS = 10.0
"""How long a task waits for the board, which may be starting again on another machine."""
_CANCEL_SECONDS = 4.0
"""How long a canceled task has to remove its unfinished files."""


class Started(NamedTuple):
    """The message that an attempt at a task has started."""

    node: str
    """Ray's id of the machine."""
    host: str
    process: int


class Refused(Exception):  # noqa: N818 - no fault of the task, which runs elsewhere
    """The machine cannot do the task, as it does not have what the driver has; others may."""

    def __init__(self, reason: str, *, only_this_task: bool = False) -> None:
        """Refuse.

        Args:
            reason: what the machine lacks, after its name.
            only_this_task: whether it may do other tasks.
        """
        super().__init__(reason)
        self.only_this_task = only_this_task


class Canceled(BaseException):
    """The driver stopped the task; a BaseException, so that no ``except Exception`` catches it."""


def versions() -> dict[str, str]:
    """Return the versions that must be the same on all machines, since they determine the results."""
    return {"subpixel": subpixel.__version__, "av": importlib.metadata.version("av")}


class Context:
    """What a task has to do with the driver."""

    def __init__(self, board: Any, attempt: int) -> None:
        self._board = board
        self._attempt = attempt
        self._last_progress = 0.0
        self.is_canceled = False

    def send(self, message: object) -> bool:
        """Send a message that must not get lost; return whether it has arrived at the board."""
        import ray

        put = self._board.put.remote(self._attempt, pickle.dumps(message))
        try:
            ray.get(put, timeout=_ACKNOWLEDGE_SECONDS)
        except ray.exceptions.RayError:
            return False
        return True

    def progress(self, message: object) -> None:
        """Send a message about progress, unless the last was a moment ago; raise `Canceled` if it is time."""
        self.check_canceled()
        now = time.monotonic()
        if now - self._last_progress >= _PROGRESS_SECONDS:
            self._last_progress = now
            self._board.put.remote(self._attempt, pickle.dumps(message))

    def check_canceled(self) -> None:
        """Raise `Canceled` if the driver stopped the task."""
        if self.is_canceled:
            raise Canceled


def perform(payload: bytes, expected: dict[str, str], board: Any, attempt: int) -> dict[str, Any]:
    """Do a task, in a process of Ray's. The result is that of `subpixel.cluster.remote.remote_function`.

    Args:
        payload: a pickled tuple of a function and its arguments; it is called with a `Context` before them.
        expected: the versions of the driver.
        board: see `subpixel.cluster.remote.start_board`.
        attempt: the number of this attempt, for the board.
    """
    import ray

    host, here, node = socket.gethostname(), versions(), ray.get_runtime_context().get_node_id()
    for name, version in expected.items():
        if here[name] != version:
            reason = f"{host} has {name} {here[name]}, and the driver {version}; install the same"
            return {"refused": reason, "node": node}
    context = Context(board, attempt)
    context.progress(Started(node, host, os.getpid()))
    try:
        function, arguments = pickle.loads(payload)
        return {"value": _call(lambda: function(context, *arguments), context)}
    except Refused as refused:
        return {"refused": f"{host} {refused}", "node": node, "only_this_task": refused.only_this_task}
    except Exception as error:
        return {"error": portable(error)}


def portable(error: Exception) -> Exception:
    """Return an exception that can be sent to the driver, with its traceback as a note."""
    error.add_note(f"On {socket.gethostname()}:\n{''.join(traceback.format_exception(error)).rstrip()}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _call(work: Callable[[], Any], context: Context) -> Any:
    """Call ``work`` in a thread, in which no exception of a cancellation arrives at a random moment."""
    result: dict[str, Any] = {}

    def run() -> None:
        try:
            result["value"] = work()
        except BaseException as error:
            result["error"] = error

    thread = threading.Thread(target=run, name="subpixel-task", daemon=True)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:  # how Ray cancels
        context.is_canceled = True
        thread.join(_CANCEL_SECONDS)
        raise
    if "error" in result:
        raise result["error"]
    return result["value"]
