"""Which machines a cluster has, and whether its head node answers."""

import threading
import time

from subpixel.cluster import connection
from subpixel.errors import ClusterError

_ASK_SECONDS = 2.0
_HEAD_SECONDS = 40.0
"""A head node that does not answer for so long is lost. Ray waits for 60 s, and then ends the process."""


class ClusterWatch:
    """Asks the head node for the machines, in a thread, since the call blocks while the head node is lost.

    A context manager: it stops to ask at the end of the body. ``as_of`` is the time, by `time.monotonic`, to
    which the answer belongs.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._nodes = {node.id: node for node in connection.nodes()}
        self._answered = self.as_of = time.monotonic()
        self._error: Exception | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="subpixel-cluster-watch", daemon=True)

    def __enter__(self) -> "ClusterWatch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closed.set()
        if not self.is_lost:
            self._thread.join(_ASK_SECONDS)

    @property
    def is_lost(self) -> bool:
        """Whether the head node does not answer any more."""
        with self._lock:
            return time.monotonic() - self._answered > _HEAD_SECONDS

    def nodes(self) -> dict[str, connection.Node]:
        """Return the machines that are alive, by their ids, as they were some seconds ago.

        Raises:
            ClusterError: the head node is lost.
        """
        if self.is_lost:
            seconds = time.monotonic() - self._answered
            reason = f" ({self._error})" if self._error else ""
            raise ClusterError(
                f"the head node of the cluster has not answered for {seconds:.0f} s{reason}; check it or "
                "start another cluster, and run the same command again: what is finished stays"
            )
        with self._lock:
            return self._nodes

    def _ask(self) -> None:
        while not self._closed.wait(_ASK_SECONDS):
            asked = time.monotonic()
            try:
                nodes = {node.id: node for node in connection.nodes()}
            except Exception as error:
                self._error = error
                continue
            with self._lock:
                self._nodes, self.as_of, self._answered = nodes, asked, time.monotonic()
