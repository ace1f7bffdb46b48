"""A child process of the server, which calls `main`: upscales files, one after the other.

It reads tasks from stdin and writes events to stdout, both as JSON objects, one a line. A line with "cancel"
stops the task with this number. When stdin ends, the server has ended or was killed, and the process exits at
once: files that are not complete are removed by the next writer, and the segments of a video stay.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
from typing import Any, Never

from subpixel.errors import SubpixelError

_PROGRESS_SECONDS = 0.1
_NICE = {"images": 5, "videos": 10}
"""How far each kind of worker steps back, so that the machine stays usable."""


class Cancelled(BaseException):
    """The server stopped the task; a BaseException, so that no ``except Exception`` catches it."""


class Terminated(Cancelled):
    """The server ends this process."""


class Worker:
    """Takes tasks from a queue that a thread fills from stdin."""

    def __init__(self, events: Any) -> None:
        self._events = events
        self._tasks: queue.Queue[dict[str, Any]] = queue.Queue()
        self._cancelled = self._current = 0
        """Numbers of tasks."""
        self._last_report = 0.0
        self.is_terminated = False

    def listen(self) -> None:
        """Read tasks until stdin ends; then end the process."""
        for line in sys.stdin:
            message = json.loads(line)
            if "cancel" in message:
                self._cancelled = message["cancel"]
            else:
                self._tasks.put(message)
        os._exit(0)

    def run(self) -> Never:
        """Do tasks, for ever."""
        from subpixel.web import tasks

        while True:
            if self.is_terminated:
                raise Terminated
            task = self._tasks.get()
            self._current = task["number"]
            try:
                outcome = getattr(tasks, f"run_{task['task']}")(task, self)
                self.send("done", **outcome)
            except Terminated:
                raise
            except Cancelled:
                self.send("cancelled")
            except Exception as error:
                # Decoders swallow what a signal raises in their callbacks, and call the file damaged.
                if self.is_terminated:
                    raise Terminated from None
                self.send("failed", message=_failure(error, task))

    def send(self, event: str, **values: Any) -> None:
        """Send an event to the server."""
        self._events.write(json.dumps({"event": event, **values}) + "\n")
        self._events.flush()

    def check_cancelled(self) -> None:
        """Raise `Cancelled` if the server stopped the task."""
        if self.is_terminated:
            raise Terminated
        if self._cancelled == self._current:
            raise Cancelled

    def report(self, stage: str, progress: Any) -> None:
        """Report the progress of a stage, unless the last report was a moment ago; may raise `Cancelled`.

        Args:
            stage: "prepare", "preview" or "upscale".
            progress: a `subpixel.results.Progress`.
        """
        self.check_cancelled()
        now = time.monotonic()
        if now - self._last_report < _PROGRESS_SECONDS and progress.fraction < 1:
            return
        self._last_report = now
        left = None
        if progress.total_frames and progress.frames_per_second:
            left = (progress.total_frames - progress.frames) / progress.frames_per_second
        elif progress.fraction and progress.total_frames is None and not progress.frames:
            left = progress.seconds * (1 - progress.fraction) / progress.fraction
        self.send(
            "progress",
            progress={
                "stage": stage,
                "fraction": round(progress.fraction, 4),
                "frames": progress.frames,
                "total_frames": progress.total_frames,
                "frames_per_second": round(progress.frames_per_second, 2),
                "seconds_left": None if left is None else round(left, 1),
            },
        )


def _failure(error: Exception, task: dict[str, Any]) -> str:
    """What to tell the user about an error."""
    name = task["name"]
    if isinstance(error, SubpixelError | ValueError | TypeError):
        return _message(error, task)
    if isinstance(error, MemoryError):
        return f"{name}: does not fit into memory; free some"
    if isinstance(error, OSError):
        return f"{name}: {error.strerror or 'could not be read or written'}"
    return f"{name}: could not be upscaled, an internal error ({type(error).__name__})"


def _message(error: Exception, task: dict[str, Any]) -> str:
    """The message of an error with the user's name of the file instead of paths."""
    text = str(error)
    for path in sorted((path for path in task.get("paths", []) if path), key=len, reverse=True):
        text = text.replace(path, task["name"])
    return text


def main() -> None:
    """Serve the parent process."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries that print do not disturb the events
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which stops its workers
    if hasattr(os, "nice"):
        os.nice(_NICE.get(sys.argv[1] if len(sys.argv) > 1 else "", 0))
    worker = Worker(events)

    def terminate(signum: int, frame: object) -> Never:
        worker.is_terminated = True
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    threading.Thread(target=worker.listen, daemon=True).start()
    try:
        from subpixel.web import tasks

        tasks.warm_up()
        worker.send("ready")
        worker.run()
    except Terminated:
        os._exit(0)
