"""Encode frames: as one stream, or in segments that are encoded independently."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Union

import numpy as np

from subpixel.errors import EncoderError
from subpixel.video.media.codecs import Encoder
from subpixel.video.media.encoded_frame import EncodedFrame
from subpixel.video.pipeline.segments import SegmentFolder

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.video.codeccontext import VideoCodecContext

SEGMENT_FRAMES = 240
"""Frames per segment, the most that an interruption costs. A segment begins with a key frame; x264 inserts
one every 250 frames anyway."""


_LEAST_FRAMES_OF_X265 = 3
"""Of fewer frames in all, the decoding times that libx265 returns are random: it never sets the delay that it
subtracts."""


@dataclass(frozen=True)
class SegmentStart:
    """The start of a segment."""

    number: int


@dataclass(frozen=True)
class SegmentEnd:
    """The end of a segment."""

    frames: int


def encode(
    items: Iterable[Union["Packet", tuple[int, "VideoFrame"]]], codec: "VideoCodecContext"
) -> Iterator[Union["Packet", EncodedFrame]]:
    """Encode numbered frames as they come, and pass packets of other streams through."""
    durations: dict[int | None, int] = {}
    frames = 0
    for item in items:
        if isinstance(item, tuple):
            frames += 1
            yield from _encoded(item[1], codec, durations)
        else:
            yield item
    rest = [*_encoded(None, codec, durations)]
    if frames < _LEAST_FRAMES_OF_X265:
        times = decoding_times(np.array([frame.pts for frame in rest], np.int64))
        rest = [replace(frame, dts=int(time)) for frame, time in zip(rest, times, strict=True)]
    yield from rest


def encode_segments(
    frames: Iterable[tuple[int, Union["VideoFrame", None]]], encoder: Encoder
) -> Iterator[SegmentStart | EncodedFrame | SegmentEnd]:
    """Encode numbered frames in segments of `SEGMENT_FRAMES`, each with a new encoder.

    So a segment does not depend on which run encoded the segments before it. None in place of a frame stands
    for a segment without frames.
    """
    codec = None
    durations: dict[int | None, int] = {}
    current, count = -1, 0
    for number, frame in frames:
        if number // SEGMENT_FRAMES != current:
            if codec is not None:
                yield from _encoded(None, codec, durations)
                yield SegmentEnd(count)
            current, count = number // SEGMENT_FRAMES, 0
            codec = encoder.open()
            yield SegmentStart(current)
        if frame is None:
            codec = None
            yield SegmentEnd(0)
            continue
        assert codec is not None
        yield from _encoded(frame, codec, durations)
        count += 1
        if count == SEGMENT_FRAMES:  # at once: the next frame may be of a segment far behind
            yield from _encoded(None, codec, durations)
            yield SegmentEnd(count)
            codec = None
    if codec is not None:
        yield from _encoded(None, codec, durations)
        yield SegmentEnd(count)


def _encoded(
    frame: "VideoFrame | None", codec: "VideoCodecContext", durations: dict[int | None, int]
) -> Iterator[EncodedFrame]:
    """Send a frame, or None for the end, to an encoder, and yield what it has ready.

    ``durations`` maps the times of frames inside the encoder to their durations, because some encoders do not
    return them.
    """
    if frame is not None:
        durations[frame.pts] = frame.duration
    for packet in codec.encode(frame):
        assert packet.pts is not None and packet.dts is not None
        duration = durations.pop(packet.pts, packet.duration or 0)
        yield EncodedFrame(bytes(packet), packet.pts, packet.dts, duration, packet.is_keyframe)


def encode_one(codec: "VideoCodecContext", frame: "VideoFrame") -> bytes:
    """Encode one frame, finish the encoder, and return the packet; empty if there is none.

    Raises `EncoderError` with the encoder's message if it refuses the frame.
    """
    import av

    try:
        return next((bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)]), b"")
    except (av.FFmpegError, ValueError) as error:
        raise EncoderError(
            f"{codec.name} cannot encode frames of {frame.width}x{frame.height} {frame.format.name}"
            f" ({getattr(error, 'strerror', error)}); choose another codec"
        ) from error


def joined_frames(folder: SegmentFolder) -> Iterator[EncodedFrame]:
    """Yield the frames of a folder's segments, with decoding times as from a single encoder.

    Each segment's encoder counted decoding times from its own start, so `decoding_times` computes new ones.
    """
    times = np.array(
        [packet.pts for number in sorted(folder.segments) for packet in folder.segments[number].packets],
        np.int64,
    )
    decoding = decoding_times(times)
    for index, (packet, data) in enumerate(folder.packets()):
        yield EncodedFrame(data, packet.pts, int(decoding[index]), packet.duration, packet.is_keyframe)


_MAX_LEAD_STEPS = 64
"""Around a jump in the times, the most frame durations that a frame is decoded before it is shown."""


def decoding_times(
    times: "np.ndarray[tuple[int], np.dtype[np.int64]]",
) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Compute decoding times (DTS) that rise strictly and never exceed the presentation times (PTS).

    They are the sorted presentation times, shifted so much earlier that no frame is shown before it is
    decoded.

    Args:
        times: presentation times in decoding order, all different.

    Returns:
        Decoding times in the same order and unit.
    """
    if not len(times):
        return times
    shown = np.sort(times)
    display_index = np.searchsorted(shown, times)
    delay = int(np.max(np.arange(len(times)) - display_index))
    step = int(shown[1] - shown[0]) if len(shown) > 1 else 1
    before = shown[0] - step * np.arange(delay, 0, -1)
    decoding = np.concatenate([before, shown])[: len(times)]
    # After a jump in the times, a frame would be decoded long before it is shown, which containers reject. So
    # no frame is decoded earlier than ``floor``, a little before the next frame that is shown.
    usual = int(np.median(np.diff(shown))) if len(shown) > 1 else 1
    next_shown = np.minimum.accumulate(times[::-1])[::-1]
    floor = next_shown - usual * max(4 * delay, _MAX_LEAD_STEPS)
    if (decoding >= floor).all():
        return decoding
    for index in range(len(decoding)):
        least = floor[index] if index == 0 else max(floor[index], decoding[index - 1] + 1)
        decoding[index] = max(decoding[index], least)
    return decoding
