"""The child processes of the server, seen from the server."""

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any

_CANCEL_SECONDS = 3.0
"""For a task to stop by itself; then its process is ended."""

_STOP_SECONDS = 5.0
"""For a process to end by itself; then it is killed."""

_MAX_LINE_BYTES = 2**20


class TaskFailed(Exception):  # noqa: N818 - as `asyncio.CancelledError`, an outcome more than an error
    """A task failed; the message is for users."""


class TaskCancelled(Exception):  # noqa: N818
    """A task was cancelled with `WorkerProcess.cancel`."""


class WorkerProcess:
    """A child process that does one task at a time. It is started with the first task, and after a crash."""

    def __init__(self, kind: str) -> None:
        """Prepare; ``kind`` is "images" or "videos"."""
        self._kind = kind
        self._process: asyncio.subprocess.Process | None = None
        self._cancelling: asyncio.Task[None] | None = None
        self._cancelled = False
        self._number = 0
        self._stopped = False
        self.is_busy = False

    async def start(self) -> None:
        """Start the process unless it runs."""
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # modules come from where this process found them, not from the current folder
                "-c",
                f"import sys; sys.path[:] = {sys.path!r}; from subpixel.web.worker import main; main()",
                self._kind,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # may contain names of files
                limit=_MAX_LINE_BYTES,
                start_new_session=True,  # Ctrl-C in the terminal goes to the server alone
            )

    async def run(self, task: dict[str, Any], on_event: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Do a task, and return the values of its outcome.

        Args:
            task: see `subpixel.web.tasks`.
            on_event: called with every event before the outcome.

        Raises:
            TaskFailed: with a message for users.
            TaskCancelled: `cancel` or `stop` was called.
        """
        if self._stopped:
            raise TaskCancelled
        self.is_busy, self._cancelled = True, False
        self._number += 1
        try:
            await self.start()
            if self._cancelled:
                raise TaskCancelled
            assert self._process is not None and self._process.stdin is not None
            assert self._process.stdout is not None
            with contextlib.suppress(ConnectionError):
                self._process.stdin.write(json.dumps({**task, "number": self._number}).encode() + b"\n")
                await self._process.stdin.drain()
            while line := await self._process.stdout.readline():
                event = json.loads(line)
                name = event.pop("event")
                if name == "done":
                    return dict(event)
                if name == "failed":
                    raise TaskFailed(event["message"])
                if name == "cancelled":
                    raise TaskCancelled
                if name != "ready":
                    on_event({"event": name, **event})
            code = await self._process.wait()
            if self._cancelled:
                raise TaskCancelled
            raise TaskFailed(_crash(task["name"], code))
        finally:
            self.is_busy = False
            if self._cancelling is not None:
                self._cancelling.cancel()
                self._cancelling = None

    def cancel(self) -> None:
        """Stop the running task, by ending the process if it does not stop soon."""
        if self.is_busy and self._cancelling is None:
            self._cancelled = True
            self._cancelling = asyncio.get_running_loop().create_task(self._cancel())

    async def _cancel(self) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        with contextlib.suppress(ConnectionError):
            process.stdin.write(json.dumps({"cancel": self._number}).encode() + b"\n")
            await process.stdin.drain()
        await asyncio.sleep(_CANCEL_SECONDS)
        await _end(process)

    async def stop(self) -> None:
        """End the process, for ever. A task that runs raises `TaskCancelled`."""
        self._cancelled = self._stopped = True
        if self._process is not None:
            await _end(self._process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ask a process to end, and kill it if it does not."""
    for signal_process, seconds in ((process.terminate, _STOP_SECONDS), (process.kill, None)):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            signal_process()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await process.wait()


def _crash(name: str, code: int) -> str:
    if code == -9:
        return (
            f"{name}: the process was killed, perhaps because memory ran out; choose a smaller size, or retry"
        )
    return (
        f"{name}: the process that upscaled it ended unexpectedly (code {code}); retry, or convert the file"
    )
