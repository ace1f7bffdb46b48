"""Keeps the index of a video's packets in the folder of its job, so that it is made only once."""

import contextlib
from dataclasses import replace
from itertools import islice

from subpixel.storage.base import Storage
from subpixel.storage.paths import locate
from subpixel.video.media.frame_index import NoRandomAccess, OtherFrames, frame_index
from subpixel.video.media.index import PacketIndex, read_index
from subpixel.video.media.source import Source
from subpixel.video.media.window import read_window
from subpixel.video.pipeline.fingerprint import identity_of

_CHECKED_FRAMES = 48
"""How many frames are decoded to see whether they are those of the packets."""


def stored_index(source: Source, storage: Storage) -> PacketIndex:
    """Return the packets of a source, from the storage if they were stored for the same file."""
    name = f"index.{identity_of(locate(source.name))}"
    with contextlib.suppress(OSError):
        try:
            return PacketIndex.from_bytes(storage.read(name).data)
        except ValueError:  # damaged, or of another version
            storage.delete(name)
    packets = _checked(source, read_index(source))
    with contextlib.suppress(OSError):  # `SegmentFolder` reports that it cannot be written
        storage.create(name, packets.to_bytes())
    return packets


def _checked(source: Source, packets: PacketIndex) -> PacketIndex:
    """Refuse packets if the first frames are not as they say.

    Some containers have decode times only, and FFmpeg does not say so.
    """
    try:
        with contextlib.closing(read_window(source, packets, frame_index(packets, source), 0)) as frames:
            for _ in islice(frames, _CHECKED_FRAMES):
                pass
    except OtherFrames as error:
        return replace(packets, refusal=str(error))
    except NoRandomAccess:
        pass
    return packets
