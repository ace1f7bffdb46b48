"""Files that the driver and the machines of a cluster see: the same ones, under the same paths."""

import contextlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from subpixel.batch import Job
from subpixel.cluster.tasks import MAX_FAILURES, Failure, FileOutcome
from subpixel.cluster.worker import Refused
from subpixel.errors import ClusterError, OutputError, OutputExists, SubpixelError
from subpixel.storage.paths import Location, is_file, locate, name_of

_MAX_LOST_MACHINES = 10


class Version(NamedTuple):
    """What tells whether a machine sees the same file as the driver."""

    size: int
    mtime_ns: int


@dataclass(eq=False)
class ClusterFile:
    """A file to upscale, on the driver."""

    job: Job
    source: str
    """The absolute path or the URL, as on all machines."""
    output: str
    overwrite: bool
    version: Version | None
    """None if the driver cannot read the file, or it is in a bucket, which is the same for all."""
    failures: int = 0
    """In a row, without progress."""
    failed_on: set[str] = field(default_factory=set)
    """Ids of machines."""
    lost_machines: int = 0
    """How many machines were lost that worked on it."""
    attempts: int = 0

    def count_failure(self, failure: Failure) -> Exception | None:
        """Count a failure; return the error of the file if there were too many, else None."""
        if failure.kind == "machine":
            # Machines are lost for reasons of their own, unless it goes on and on.
            self.lost_machines += 1
            if self.lost_machines < _MAX_LOST_MACHINES:
                return None
        self.failures += 1
        if failure.node:
            self.failed_on.add(failure.node)
        if self.failures < MAX_FAILURES:
            return None
        if isinstance(failure.error, SubpixelError):
            return failure.error
        reason = f"set aside after {MAX_FAILURES} failures, the last one: {failure.reason}"
        return ClusterError(f"{self.job.source}: {reason}")

    def may_pass_elsewhere(self, error: Exception) -> bool:
        """Whether the file may succeed on another machine, or later: a full disk, a lack of memory."""
        if isinstance(error, OutputExists):
            return self.attempts > 1 and not self.overwrite  # an earlier attempt wrote it
        if isinstance(error, SubpixelError):
            return type(error) is OutputError
        return not isinstance(error, ValueError | TypeError)

    def refused(self, failure: Failure) -> ClusterError:
        """Return the error of a file that no machine takes."""
        return ClusterError(f"{self.job.source}: no machine can do it: {failure.reason}")

    def outcome(self, outcome: FileOutcome) -> FileOutcome:
        """Return an outcome with the paths as the user wrote them, and an error if the output is not here."""
        if isinstance(outcome, Exception):
            return self._with_given_paths(outcome)
        if not is_visible(locate(self.output)):
            return ClusterError(
                f"{self.job.output}: a machine wrote this file, but it is not there on this one; all "
                "machines must see the same output folder"
            )
        return replace(outcome, input=name_of(self.job.source), output=name_of(self.job.output))

    def _with_given_paths(self, error: Exception) -> Exception:
        if isinstance(error, SubpixelError) and error.args:
            message = str(error)
            for absolute, given in ((self.output, self.job.output), (self.source, self.job.source)):
                if message.startswith(f"{absolute}:"):
                    message = name_of(given) + message[len(absolute) :]
            error.args = (message,)
        return error


def file_fields(job: Job, *, overwrite: bool) -> dict[str, Any]:
    """Return the fields of the `ClusterFile` of a job."""
    source, output = job.source.absolute(), job.output.absolute()
    return {
        "job": job,
        "source": str(source),
        "output": str(output),
        "overwrite": overwrite,
        "version": version_of(source),
    }


def version_of(file: Location) -> Version | None:
    """Return the version of a file; None for an object in a bucket, or if it cannot be read."""
    if not isinstance(file, Path):
        return None
    try:
        status = file.stat()
    except OSError:
        return None
    return Version(status.st_size, status.st_mtime_ns)


def check_version(source: str, version: Version | None) -> None:
    """Raise `Refused` unless this machine sees a file as the driver does."""
    if version is None:
        return
    here = version_of(Path(source))
    if here is None:
        reason = f"does not see {source}; all machines must see the files under the same path"
    elif here != version:
        reason = f"has another file at {source} than the driver had; all machines must see the same files"
    else:
        return
    # Perhaps the file was removed or replaced, so the machine is not to blame for all tasks.
    raise Refused(reason, only_this_task=True)


def is_visible(output: Location) -> bool:
    """Whether a file that another machine has just written is seen here."""
    if not isinstance(output, Path) or is_file(output):
        return True
    with contextlib.suppress(OSError):
        list(output.parent.iterdir())  # NFS then forgets that the file did not exist a moment ago
    return is_file(output)
