"""The disk of the server's data: it never fills."""

import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from subpixel.web.errors import RequestError
from subpixel.web.jobs import Job
from subpixel.web.settings import Limits

_CACHE_SECONDS = 0.5
_RETRY_SECONDS = 60


class Disk:
    """Free space, less a reserve and less what uploads have been promised."""

    def __init__(self, folder: Path, limits: Limits, jobs: Iterable[Job]) -> None:
        self._folder = folder
        self._limits = limits
        self._jobs = jobs
        self._measured = (0.0, 0)

    def free_bytes(self) -> int:
        """Return the free space without the reserve; negative if the reserve is in use."""
        now = time.monotonic()
        if now - self._measured[0] > _CACHE_SECONDS:
            self._measured = (now, shutil.disk_usage(self._folder).free)
        return self._measured[1] - self._limits.reserve_bytes

    def is_short(self) -> bool:
        """Whether jobs that run must stop, as they have used half of the reserve."""
        return self.free_bytes() < -self._limits.reserve_bytes / 2

    def has_space(self) -> bool:
        """Whether jobs may write results."""
        return self.free_bytes() > 0

    def why_full(self) -> str:
        """Return why jobs wait, for users."""
        reserve = self._limits.reserve_bytes / 1e9
        return f"waits: less than {reserve:.1f} GB are free on the disk; remove files or finished jobs"

    def admit(self, length: int) -> None:
        """Raise `RequestError` (507) unless an upload of so many bytes fits."""
        promised = stored = 0
        for job in self._jobs:
            promised += job.length - job.offset if job.state == "uploading" else 0
            stored += (0 if job.path else job.length) + (job.result or {}).get("bytes", 0)
        if length > self.free_bytes() - promised:
            raise RequestError(
                507,
                f"the file has {length} bytes, and the disk of the server has no space for it; remove "
                "finished jobs, or start the server with --data on a larger disk",
                retry_after=_RETRY_SECONDS,
            )
        if stored + length > self._limits.data_bytes:
            raise RequestError(
                507,
                f"the jobs of this server would take more than {self._limits.data_bytes} bytes; remove "
                "finished jobs, or start the server with a higher --max-data",
                retry_after=_RETRY_SECONDS,
            )

    def check(self) -> None:
        """Raise `RequestError` (507) if the reserve is in use, during an upload."""
        if self.free_bytes() <= 0:
            raise RequestError(
                507, "the disk of the server is full; remove files, and resume", retry_after=_RETRY_SECONDS
            )
