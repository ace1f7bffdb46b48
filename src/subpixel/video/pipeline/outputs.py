"""The end of a job: that its output was written, by this process or another, and what may be removed then.

A job records its output with size and time just before it gets its name. So an output that exists is either
that of this job, and complete, or another file. As long as shards may still start, the record stays, so that
they see that there is nothing to do.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subpixel.storage.base import Storage
from subpixel.storage.outputs import identity
from subpixel.storage.paths import Location
from subpixel.video.pipeline.segments import SegmentFolder, job_prefix, read_object

_WRITTEN, _DONE = "written.", "done."


def record_output(folder: SegmentFolder, part: Path) -> None:
    """Record that the output is complete, except that its temporary file is to be renamed or sent."""
    with folder.write_errors():
        folder.create(_record_of(part), {})


def has_written(storage: Storage, output: Location) -> bool:
    """Return whether a job in a folder wrote ``output``, as it is now."""
    try:
        written = _record_of(output)
        return any(entry.name.endswith(f"/{written}") for entry in storage.entries())
    except OSError:
        return False


def written_outcome(
    storage: Storage, fingerprint: Mapping[str, Any], output: Location
) -> dict[str, Any] | None:
    """Return the stored outcome if the same job has written ``output``, as it is now; else None."""
    prefix = job_prefix(fingerprint)
    try:
        if read_object(storage, prefix + _record_of(output)) is not None:
            return read_object(storage, f"{prefix}outcome")
    except OSError:
        pass
    return None


def is_joined(folder: SegmentFolder, output: Location) -> bool:
    """Return whether the segments were joined into the output, and the folder perhaps removed."""
    with folder.write_errors():
        try:
            record = _record_of(output)
        except FileNotFoundError:
            return False
        return folder.read(record) is not None or not folder.exists()


def end_shard(folder: SegmentFolder, shard: tuple[int, int], output: Location) -> None:
    """Record that a shard has ended with its share complete.

    Once the output is written, the segments are removed, and by the last shard the rest.
    """
    number, count = shard
    with folder.write_errors():
        if not folder.exists():  # but what this process has put there since it was removed
            remove_job(folder)
            return
        folder.create(f"{_DONE}{number}.{count}", {})
        if not is_joined(folder, output):
            return
        if not folder.exists():
            remove_job(folder)
            return
        if {f"{_DONE}{each}.{count}" for each in range(1, count + 1)} <= set(folder.names()):
            remove_job(folder)
        else:
            folder.remove_segments()


def remove_job(folder: SegmentFolder) -> None:
    """Remove a job whose output is written; the record of that goes last."""
    with folder.write_errors():
        folder.remove_job(last=_WRITTEN)
        remove_leftovers(folder.storage)


def remove_leftovers(storage: Storage) -> None:
    """Remove what no job needs: a process may have written there just when another one removed its job."""
    names = [entry.name for entry in storage.entries()]
    if not any("/" in name for name in names):
        for name in names:
            storage.delete(name)
    storage.prune()


def forget_other_outputs(folder: SegmentFolder, output: Location) -> None:
    """Forget an output that was written and then replaced or removed, and the shards that ended before."""
    with folder.write_errors():
        names = folder.names()
        if not any(name.startswith(_WRITTEN) for name in names):
            return
        # A process that is about to rename the output has the claim; afterwards the output is there.
        if _exists(folder.storage, folder.join_claim) or is_joined(folder, output):
            return
        for name in names:
            if name.startswith((_WRITTEN, _DONE)):
                folder.storage.delete(folder.prefix + name)


def _exists(storage: Storage, name: str) -> bool:
    try:
        storage.read(name)
    except FileNotFoundError:
        return False
    return True


def _record_of(output: Location) -> str:
    return f"{_WRITTEN}{identity(output)}"
