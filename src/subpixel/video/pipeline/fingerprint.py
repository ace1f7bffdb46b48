"""What determines the encoded frames of a job, and what of that depends on the machine."""

import contextlib
import dataclasses
import hashlib
from typing import Any

from subpixel.storage.base import Storage
from subpixel.storage.paths import Location, ObjectPath, locate
from subpixel.video.pipeline.encode import SEGMENT_FRAMES
from subpixel.video.pipeline.plan import VideoPlan
from subpixel.video.pipeline.segment_file import from_line, to_line

_TIMESTAMPS_VERSION = 2
"""Version of how frames get their times. A change invalidates the segments of earlier versions."""

_FRAMES_VERSION = 4
"""Version of how frames are computed. Raise it with every change of the code that changes samples or packets.
Models, engines and options need no new version: the fingerprint contains them."""


def fingerprint_of(plan: VideoPlan, storage: Storage, *, precision_is_chosen: bool) -> dict[str, Any]:
    """Return everything that determines the encoded frames, but for `choices_of`.

    Args:
        plan: of the job.
        storage: where the digest of the input's content is stored, so that it is computed once.
        precision_is_chosen: whether the caller named the precision, so that another one is another job.
    """
    import av

    encoder = dataclasses.asdict(plan.encoder)
    del encoder["threads"]
    target = list(plan.upsampling.target)  # without the pixels that make odd sides even
    return {
        "version": [_FRAMES_VERSION, av.__version__],  # PyAV contains FFmpeg and its encoders
        "input": _input_digest(locate(plan.source.name), storage),
        "part": [str(plan.source.timeline.time_range.start), str(plan.source.timeline.time_range.end)],
        "times": [_TIMESTAMPS_VERSION, str(plan.source.timeline.shift)],
        "deinterlacing": list(dataclasses.astuple(plan.deinterlacing)),
        "model": " ".join(each.model.digest() for each in plan.upsampling.engines),
        **({"precision": _precision(plan)} if precision_is_chosen else {}),
        "encoder": {key: str(value) for key, value in encoder.items()},
        "segment": SEGMENT_FRAMES,
        "target": target,
        "sharpness": plan.upsampling.sharpness,
        "grain": plan.grain,
    }


def choices_of(plan: VideoPlan) -> dict[str, Any]:
    """Return what was chosen for this machine, and must be the same for all that do the same job."""
    return {
        "threads": plan.encoder.threads,
        "precision": _precision(plan),
        "engines": [
            [each.precision] if each.is_exact else [each.name, each.precision, each.target]
            for each in plan.upsampling.engines
        ],
    }


def _precision(plan: VideoPlan) -> str:
    return next((each.precision for each in plan.upsampling.engines), "")


def identity_of(path: Location) -> str:
    """Return what distinguishes a file from one that replaces it, without reading it, in hexadecimal."""
    if isinstance(path, ObjectPath):
        found = path.status()
        identity: list[object] = [found.size, found.version]
    else:
        status = path.stat()
        identity = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    return hashlib.sha256(repr(identity).encode()).hexdigest()[:16]


def _input_digest(path: Location, storage: Storage) -> str:
    """Return the digest of a file's content, from the storage if the file did not change since.

    That of an object is its ETag, so that not all of it is read.
    """
    if isinstance(path, ObjectPath):
        found = path.status()
        return f"{found.size} {found.version}"
    name = f"input.{identity_of(path)}"
    with contextlib.suppress(OSError):
        stored = from_line(storage.read(name).data)
        if stored is not None and isinstance(stored.get("sha256"), str):
            return str(stored["sha256"])
        storage.delete(name)  # damaged
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with contextlib.suppress(OSError):  # `SegmentFolder` reports that it cannot be written
        storage.create(name, to_line({"sha256": digest}))
    return digest
