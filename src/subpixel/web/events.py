"""Changes of jobs for those who listen: server-sent events."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

_INTERVAL_SECONDS = 0.1
"""Between two messages about progress to one listener; changes of one job in between become one."""

_HEARTBEAT_SECONDS = 15.0
"""After so long without a change an empty comment is sent, which finds closed connections."""


class EventHub:
    """Passes changes on to any number of listeners.

    A slow listener costs little memory: it has a set of the jobs that have changed, not a queue of events.
    """

    def __init__(self, snapshot: Callable[[], list[dict[str, Any]]], job: Callable[[str], Any]) -> None:
        """Prepare.

        Args:
            snapshot: returns all jobs.
            job: returns one job as JSON, by its identifier; None if it was removed.
        """
        self._snapshot = snapshot
        self._job = job
        self._listeners: set[_Listener] = set()
        self._closed = False

    @property
    def count(self) -> int:
        """The number of listeners."""
        return len(self._listeners)

    def publish(self, id: str, *, at_once: bool = False) -> None:
        """Tell the listeners that a job was added, changed or removed; ``at_once`` without the interval."""
        for listener in self._listeners:
            listener.changed[id] = None
            listener.wake.set()
            if at_once:
                listener.at_once.set()

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        for listener in self._listeners:
            listener.wake.set()
            listener.at_once.set()

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield events as text/event-stream until the listener goes away."""
        listener = _Listener()
        self._listeners.add(listener)
        try:
            yield _event("jobs", {"jobs": self._snapshot()})
            while not self._closed:
                try:
                    async with asyncio.timeout(_HEARTBEAT_SECONDS):
                        await listener.wake.wait()
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                listener.wake.clear()
                listener.at_once.clear()
                changed, listener.changed = listener.changed, {}
                for id in changed:
                    job = self._job(id)
                    yield _event("removed", {"id": id}) if job is None else _event("job", job)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_INTERVAL_SECONDS):
                        await listener.at_once.wait()
        finally:
            self._listeners.discard(listener)


class _Listener:
    def __init__(self) -> None:
        self.changed: dict[str, None] = {}
        self.wake = asyncio.Event()
        self.at_once = asyncio.Event()


def _event(name: str, data: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
