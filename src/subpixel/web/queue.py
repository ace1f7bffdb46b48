"""The queue of jobs: which task runs when, in which child process."""

import asyncio
import contextlib
import itertools
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from subpixel.web.disk import Disk
from subpixel.web.errors import RequestError
from subpixel.web.events import EventHub
from subpixel.web.jobs import Job
from subpixel.web.processes import TaskCancelled, TaskFailed, WorkerProcess
from subpixel.web.settings import Settings
from subpixel.web.store import JobStore

_URGENT, _NORMAL = 0, 1
"""Priorities: a client waits for the answer, or for the job."""

_DISK_CHECK_SECONDS = 2.0
_RETRY_SECONDS = 5

_LOG = logging.getLogger("subpixel.web")


class JobQueue:
    """Runs jobs in order: a few images at once, and beside them one video."""

    def __init__(self, settings: Settings, store: JobStore, hub: EventHub, disk: Disk) -> None:
        self._settings = settings
        self._store = store
        self._hub = hub
        self._disk = disk
        self._images: asyncio.PriorityQueue[tuple[int, int, Callable[[WorkerProcess], Awaitable[None]]]] = (
            asyncio.PriorityQueue()
        )
        self._videos: asyncio.Queue[Job] = asyncio.Queue()
        self._order = itertools.count()
        self._running: dict[str, WorkerProcess] = {}
        self._workers: list[WorkerProcess] = []
        self._lanes: list[asyncio.Task[None]] = []
        self._stopping = False

    def start(self) -> None:
        """Start the workers, and queue all jobs that are not finished."""
        for _ in range(self._settings.image_workers):
            worker = WorkerProcess("images")
            self._workers.append(worker)
            self._lanes.append(asyncio.create_task(self._image_lane(worker)))
        worker = WorkerProcess("videos")
        self._workers.append(worker)
        self._lanes.append(asyncio.create_task(self._video_lane(worker)))
        for job in self._store:
            if job.state in ("waiting", "running"):
                self.add(job)

    async def stop(self) -> None:
        """End all processes; jobs that run will go on at the next start."""
        self._stopping = True
        await asyncio.gather(*(worker.stop() for worker in self._workers))
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)

    def add(self, job: Job) -> None:
        """Queue a job whose source is complete."""
        job.state, job.error, job.finished, job.expires, job.progress = "waiting", None, None, None, None
        self.changed(job)
        self._put(_NORMAL, lambda worker: self._start(job, worker))

    def cancel(self, job: Job) -> None:
        """Cancel a job in any state but finished."""
        self._finish(job, "cancelled")
        if worker := self._running.get(job.id):
            worker.cancel()

    def is_running(self, job: Job) -> bool:
        """Whether a process works on a job, perhaps until it notices that the job is cancelled."""
        return job.id in self._running

    async def ask(self, task: dict[str, Any]) -> dict[str, Any]:
        """Do a task for which a client waits, and return its outcome.

        Raises:
            TaskFailed: with a message for users.
            RequestError: the server stops.
        """
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

        async def run(worker: WorkerProcess) -> None:
            if future.cancelled():
                return
            try:
                outcome = await worker.run(task, lambda event: None)
            except (TaskFailed, TaskCancelled) as error:
                stopped = RequestError(503, "the server stops; try again later", retry_after=_RETRY_SECONDS)
                if not future.cancelled():
                    future.set_exception(error if isinstance(error, TaskFailed) else stopped)
            else:
                if not future.cancelled():
                    future.set_result(outcome)

        self._put(_URGENT, run)
        return await future

    def _put(self, priority: int, run: Callable[[WorkerProcess], Awaitable[None]]) -> None:
        self._images.put_nowait((priority, next(self._order), run))

    async def _image_lane(self, worker: WorkerProcess) -> None:
        await worker.start()
        while not self._stopping:
            _, _, run = await self._images.get()
            with _logged():
                await run(worker)

    async def _video_lane(self, worker: WorkerProcess) -> None:
        while not self._stopping:
            job = await self._videos.get()
            with _logged():
                if job.state == "waiting" and await self._wait_for_disk(job):
                    await self._run(job, worker, "video")

    async def _start(self, job: Job, worker: WorkerProcess) -> None:
        """Upscale an image, or prepare a video."""
        if job.state == "waiting" and job.kind == "video" and job.prepared:
            self._videos.put_nowait(job)
        elif job.state == "waiting" and await self._wait_for_disk(job):
            await self._run(job, worker, "start")

    async def _wait_for_disk(self, job: Job) -> bool:
        """Wait until the disk has space for results; return whether the job is still wanted."""
        while job.state == "waiting" and not self._disk.has_space():
            job.note = self._disk.why_full()
            self._hub.publish(job.id)
            await asyncio.sleep(_DISK_CHECK_SECONDS)
        job.note = None
        return job.state == "waiting"

    async def _run(self, job: Job, worker: WorkerProcess, task: str) -> None:
        """Run one task of a job, and store what comes of it."""
        job.state = "running"
        self._running[job.id] = worker
        self.changed(job)
        try:
            outcome = await worker.run(self.task(job, task), lambda event: self._on_event(job, event))
        except TaskCancelled:
            if job.state == "running":
                self._put_back(job)
        except TaskFailed as failure:
            if job.state == "running" and self._stopping:
                self._put_back(job)
            elif job.state == "running":
                job.error = str(failure)
                self._finish(job, "failed")
        else:
            if job.state == "running":
                self._on_outcome(job, outcome)
        finally:
            self._running.pop(job.id, None)
            if self._is_cancelled(job):
                await asyncio.to_thread(job.remove_results)
                self._hub.publish(job.id)

    def _put_back(self, job: Job) -> None:
        """Let a job that was interrupted wait again: the server stops, or the disk is full."""
        job.state, job.progress = "waiting", None
        self.changed(job)
        if not self._stopping:
            self._put(_NORMAL, lambda worker: self._start(job, worker))

    def interrupt(self) -> None:
        """Interrupt all jobs that run, and queue them again."""
        for id, worker in self._running.items():
            if (job := self._store.get(id)) is not None and job.state == "running":
                worker.cancel()

    @staticmethod
    def _is_cancelled(job: Job) -> bool:
        return job.state == "cancelled"

    def task(self, job: Job, task: str, **values: Any) -> dict[str, Any]:
        """Return a task for a worker."""
        limits = self._settings.limits
        return {
            "task": task,
            "name": job.name,
            "input": str(job.input),
            "folder": str(job.folder),
            "options": job.options,
            "paths": [str(job.input), str(job.folder)],
            "limits": {
                "output_pixels": limits.output_pixels,
                "memory_mib": limits.memory_mib,
                "frames": limits.frames,
            },
            **values,
        }

    def _on_event(self, job: Job, event: dict[str, Any]) -> None:
        if job.state != "running":
            return
        if event["event"] == "progress":
            job.progress = event["progress"]
            self._hub.publish(job.id)
        elif event["event"] == "source":
            job.kind, job.source, job.target = event["kind"], event["source"], event["target"]
            self.changed(job)

    def _on_outcome(self, job: Job, outcome: dict[str, Any]) -> None:
        job.kind = outcome["kind"]
        if "result" in outcome:
            job.result = outcome["result"]
            job.target = {"width": job.result["width"], "height": job.result["height"]}
            self._finish(job, "done")
        else:
            job.state, job.progress, job.prepared = "waiting", None, True
            self.changed(job)
            self._videos.put_nowait(job)

    def _finish(self, job: Job, state: Any) -> None:
        job.state, job.progress, job.note = state, None, None
        job.finished = time.time()
        job.expires = job.finished + self._settings.limits.keep_seconds
        self.changed(job)

    def changed(self, job: Job) -> None:
        """Store a job, and tell the listeners. If the disk is full, the job is in memory alone for now."""
        try:
            self._store.save(job)
        except sqlite3.Error as error:
            _LOG.error("a job could not be stored: %s", describe(error))
        self._hub.publish(job.id, at_once=job.is_finished)


@contextlib.contextmanager
def _logged() -> Any:
    """Log an unexpected error without its message, which may contain the name of a file."""
    try:
        yield
    except Exception as error:
        _LOG.error("internal error: %s", describe(error))


def describe(error: BaseException) -> str:
    """Return type and place of an error, without its message."""
    trace, place = error.__traceback__, "?"
    while trace is not None:
        place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} at {place}"
