"""The state of a running server: jobs, queue, events, disk, and what happens by itself."""

import asyncio
import contextlib
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from subpixel.errors import SubpixelError
from subpixel.files import is_file, lock
from subpixel.web.disk import Disk
from subpixel.web.errors import RequestError
from subpixel.web.events import EventHub
from subpixel.web.jobs import VIEWABLE, Job, clean_name, new_id
from subpixel.web.processes import TaskFailed
from subpixel.web.queue import JobQueue, describe
from subpixel.web.settings import Settings
from subpixel.web.store import JobStore

_LOG = logging.getLogger("subpixel.web")

_CHECK_SECONDS = 1.0
_DATABASE = "jobs.sqlite"
_RETRY_SECONDS = 30
_THREADS = 32
"""They wait for the disk; Python's default is 4 more than there are processors."""

_PROGRESS_SECONDS = 0.3
"""In which an upload must go on, when a newer request wants to take over."""


class DataError(SubpixelError):
    """The folder of the server's data cannot be used."""


class Service:
    """What the routes work with."""

    def __init__(self, settings: Settings) -> None:
        """Open the data of a server.

        Raises:
            DataError: another server uses the folder, or it cannot be written.
        """
        self.settings = settings
        try:
            self._open_data(settings)
        except OSError as error:
            raise DataError(f"{settings.data}: cannot be used for data ({error.strerror or error})") from None
        except sqlite3.Error as error:
            raise DataError(
                f"{settings.data / _DATABASE}: cannot be read ({error}); move it away, or name another --data"
            ) from None
        self.hub = EventHub(self._snapshot, self._job_json)
        self.disk = Disk(settings.data, settings.limits, self.store)
        self.queue = JobQueue(settings, self.store, self.hub, self.disk)
        self.uploads = Receivers()
        self.synchronous = 0
        """Synchronous calls that run or wait."""
        self._views: dict[tuple[str, str], asyncio.Task[dict[str, Any]]] = {}
        self._expiry: asyncio.Task[None] | None = None

    def _open_data(self, settings: Settings) -> None:
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = settings.data / "jobs"
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = lock(settings.data / "lock")
        if self._lock is None:
            raise DataError(
                f"{settings.data}: another server uses this folder; stop it, or name another with --data"
            )
        self.scratch = settings.data / "scratch"
        """For what lives no longer than a request."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(mode=0o700)
        self.store = JobStore(settings.data / _DATABASE, self._folder)
        self._remove_orphans()

    def _remove_orphans(self) -> None:
        """Remove the folders of jobs that were removed while the server was killed."""
        for folder in self._folder.iterdir():
            if self.store.get(folder.name) is None:
                shutil.rmtree(folder, ignore_errors=True)

    async def start(self) -> None:
        """Start to work on jobs."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log_error)
        loop.set_default_executor(ThreadPoolExecutor(_THREADS, "subpixel-web"))
        self.queue.start()
        self._expiry = asyncio.create_task(self._expire())

    async def stop(self) -> None:
        """Stop all work; it goes on at the next start."""
        if self._expiry is not None:
            self._expiry.cancel()
        self.hub.close()
        await self.queue.stop()
        self.store.close()
        if self._lock is not None:
            os.close(self._lock)

    def _snapshot(self) -> list[dict[str, Any]]:
        return [job.to_json() for job in self.store]

    def _job_json(self, id: str) -> dict[str, Any] | None:
        job = self.store.get(id)
        return None if job is None else job.to_json()

    def job(self, id: str) -> Job:
        """Return a job; raise `RequestError` (404) if there is none."""
        if (job := self.store.get(id)) is None:
            raise RequestError(404, "there is no such job; it may have expired")
        return job

    def create(
        self,
        name: str,
        length: int,
        options: dict[str, Any],
        path: str | None = None,
        *,
        resumable: bool = False,
    ) -> Job:
        """Add a job whose source is still to come, or is the file ``path``.

        Only uploads that are resumable survive a restart of the server.

        Raises:
            RequestError: the source is too long, the disk too full, or there are too many jobs.
        """
        limits = self.settings.limits
        if path is None and length > limits.upload_bytes:
            raise RequestError(
                413,
                f"the file has {length} bytes, more than the limit of {limits.upload_bytes} (--max-upload)",
            )
        if sum(not job.is_finished for job in self.store) >= limits.jobs:
            raise RequestError(
                429,
                f"{limits.jobs} jobs are waiting; try again when some are done",
                retry_after=_RETRY_SECONDS,
            )
        if path is None:
            self.disk.admit(length)
        id = new_id()
        folder = self._folder / id
        job = Job(id, clean_name(name), folder, options, time.time(), length, path, resumable=resumable)
        try:
            folder.mkdir(mode=0o700)
            if resumable:
                self.store.save(job)
            else:
                self.store.hold(job)
        except (OSError, sqlite3.Error):
            raise RequestError(
                507, "the server cannot write to its disk; free some space", retry_after=_RETRY_SECONDS
            ) from None
        self.hub.publish(id)
        return job

    def submit(self, job: Job) -> None:
        """Queue a job whose source is complete."""
        job.offset = job.length
        self.queue.add(job)

    def source_path(self, given: Any) -> Path:
        """Return a path on the server that a client names; raise `RequestError` unless it is allowed."""
        if not self.settings.allow_paths:
            raise RequestError(403, "paths on the server are not allowed; start it with --allow-path FOLDER")
        if not isinstance(given, str) or not Path(given).is_absolute():
            raise RequestError(422, "path must be the absolute path of a file on the server")
        try:
            path = Path(given).resolve(strict=True)
        except (OSError, ValueError):
            path = None  # the answer does not tell whether a file exists elsewhere
        allowed = path is not None and any(
            path.is_relative_to(folder.resolve()) for folder in self.settings.allow_paths
        )
        if path is None or not allowed or not is_file(path):
            raise RequestError(403, "there is no such file in the folders that --allow-path names")
        return path

    async def remove(self, job: Job) -> None:
        """Cancel a job, and remove it with its files."""
        if not job.is_finished:
            self.queue.cancel(job)
        self.store.remove(job)
        self.hub.publish(job.id)
        while self.queue.is_running(job):
            await asyncio.sleep(0.05)
        await asyncio.to_thread(shutil.rmtree, job.folder, ignore_errors=True)

    async def cancel(self, job: Job) -> None:
        """Cancel a job unless it is finished."""
        if job.is_finished:
            raise RequestError(409, f"the job is {job.state} already")
        self.queue.cancel(job)

    async def retry(self, job: Job, options: dict[str, Any] | None) -> None:
        """Run a finished job once more, perhaps with other options."""
        self._check_finished(job)
        if job.offset < job.length or not is_file(job.input):
            raise RequestError(409, "the file of this job did not arrive completely; send it again")
        while self.queue.is_running(job):
            await asyncio.sleep(0.05)
        # Meanwhile another request may have removed the job, or have started it again.
        self._check_finished(job)
        if options is not None and options != job.options:
            job.options = options
            await asyncio.to_thread(job.remove_results)
            self._check_finished(job)
        job.result, job.prepared = None, False
        self.queue.add(job)

    def _check_finished(self, job: Job) -> None:
        """Raise `RequestError` unless a job is still there, and finished."""
        self.job(job.id)
        if not job.is_finished:
            raise RequestError(409, f"the job is {job.state}; cancel it first")

    async def view(self, job: Job, link: str) -> Path:
        """Return the file behind a link, which is made now if nobody asked for it before."""
        assert job.result is not None and job.output is not None
        if link == "view" and job.output.suffix in VIEWABLE:
            return job.output
        if link == "original" and job.result["frames"]:
            return job.input  # an animation, in a format that browsers show
        file = job.file(link)
        if not is_file(file):
            size = [job.result["width"], job.result["height"]]
            task = self.queue.task(job, "view", view=link, size=size, file=job.result["file"])
            key = (job.id, link)
            if key not in self._views:
                self._views[key] = asyncio.create_task(self.queue.ask(task))
                self._views[key].add_done_callback(lambda task: self._forget_view(key, task))
            try:
                await asyncio.shield(self._views[key])
            except TaskFailed as failure:
                raise RequestError(422, str(failure)) from None
        return file

    def _forget_view(self, key: tuple[str, str], task: "asyncio.Task[dict[str, Any]]") -> None:
        self._views.pop(key, None)
        if not task.cancelled():
            task.exception()  # or asyncio complains that nobody asked, if the client is gone

    async def _expire(self) -> None:
        """Remove what is older than the limit, and stop jobs if the disk gets full."""
        while True:
            now, keep = time.time(), self.settings.limits.keep_seconds
            if self.disk.is_short():
                self.queue.interrupt()
            for job in self.store:
                abandoned = job.state == "uploading" and now > job.touched + keep
                if abandoned or (job.expires is not None and now > job.expires):
                    with contextlib.suppress(OSError):
                        await self.remove(job)
            await asyncio.sleep(min(_CHECK_SECONDS, max(0.1, keep / 4)))


def _log_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error that nobody handled, without its message, which may contain the name of a file."""
    error = context.get("exception")
    _LOG.error("internal error: %s", "unknown" if error is None else describe(error))


class Receivers:
    """The requests that receive the bytes of uploads: one for each, and the newest wins."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self, id: str, receive: Coroutine[Any, Any, None]) -> None:
        """Receive the bytes of an upload; raise `RequestError` (409) if a newer request takes over."""
        task = self._tasks[id] = asyncio.create_task(receive)
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
            if self._tasks.get(id) is task:
                del self._tasks[id]
        if task.cancelled():
            raise RequestError(409, "another request goes on with this upload")
        task.result()

    async def stop(self, job: Job) -> None:
        """End the request that receives the bytes of an upload, and wait until it has written them.

        A connection that has ended may have sent more than was read yet; that is read first.
        """
        if (task := self._tasks.get(job.id)) is None:
            return
        before = -1
        while not task.done() and job.offset > before:
            before = job.offset
            await asyncio.wait([task], timeout=_PROGRESS_SECONDS)
        task.cancel()
        await asyncio.wait([task])
