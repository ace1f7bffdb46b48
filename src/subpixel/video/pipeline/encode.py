"""Frames become packets: in one go, or in segments that each stand on their own."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

import numpy as np

from subpixel.errors import EncoderError
from subpixel.video.media.codecs import Encoder
from subpixel.video.pipeline.segments import Journal

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.video.codeccontext import VideoCodecContext

SEGMENT_FRAMES = 240
"""How many frames a segment has: what a kill costs at most. It begins with a key frame, which x264 would put
after 250 anyway."""


@dataclass(frozen=True)
class Encoded:
    """One encoded picture. Times are in the encoder's time base."""

    data: bytes
    pts: int
    dts: int
    duration: int
    key: bool


@dataclass(frozen=True)
class Begin:
    """A segment begins."""

    number: int


@dataclass(frozen=True)
class End:
    """A segment is whole."""

    frames: int


def encode(
    items: Iterable[Union["Packet", tuple[int, "VideoFrame"]]], codec: "VideoCodecContext"
) -> Iterator[Union["Packet", Encoded]]:
    """Encode numbered frames as they come; packets of other streams pass."""
    durations: dict[int | None, int] = {}
    for item in items:
        if isinstance(item, tuple):
            yield from _encoded(item[1], codec, durations)
        else:
            yield item
    yield from _encoded(None, codec, durations)


def encode_segments(
    frames: Iterable[tuple[int, "VideoFrame"]], encoder: Encoder
) -> Iterator[Begin | Encoded | End]:
    """Encode numbered frames, `SEGMENT_FRAMES` by `SEGMENT_FRAMES`, each segment with an encoder of its own.

    So a segment is the same whether those before it were made in the same run or not.
    """
    codec = None
    durations: dict[int | None, int] = {}
    current, count = -1, 0
    for number, frame in frames:
        if number // SEGMENT_FRAMES != current:
            if codec is not None:
                yield from _encoded(None, codec, durations)
                yield End(count)
            current, count = number // SEGMENT_FRAMES, 0
            codec = encoder.open()
            yield Begin(current)
        assert codec is not None
        yield from _encoded(frame, codec, durations)
        count += 1
    if codec is not None:
        yield from _encoded(None, codec, durations)
        yield End(count)


def _encoded(
    frame: "VideoFrame | None", codec: "VideoCodecContext", durations: dict[int | None, int]
) -> Iterator[Encoded]:
    """What an encoder has ready once it is given a frame, or the end.

    ``durations`` are those of the frames that are on their way, by their times: not every encoder passes
    them on.
    """
    if frame is not None:
        durations[frame.pts] = frame.duration
    for packet in codec.encode(frame):
        assert packet.pts is not None and packet.dts is not None
        duration = durations.pop(packet.pts, packet.duration or 0)
        yield Encoded(bytes(packet), packet.pts, packet.dts, duration, packet.is_keyframe)


def sample(codec: "VideoCodecContext", frame: "VideoFrame") -> bytes:
    """The packet that an encoder makes of one frame, and which ends its work; empty where it makes none.

    Raises `EncoderError` with the encoder's own words where it refuses the frame.
    """
    import av

    try:
        return next((bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)]), b"")
    except (av.FFmpegError, ValueError) as error:
        raise EncoderError(
            f"{codec.name} does not encode {frame.width}x{frame.height} {frame.format.name}"
            f" ({getattr(error, 'strerror', error)})"
        ) from error


def joined(journal: Journal) -> Iterator[Encoded]:
    """All pictures of a journal's segments, with times of decoding as if one encoder had made them.

    Each encoder counted those from its own start. They are laid out anew: in decoding order, the times of
    presentation in rising order, so much earlier that no picture is shown before it is decoded.
    """
    times = np.array(
        [packet.pts for number in sorted(journal.segments) for packet in journal.segments[number].packets],
        np.int64,
    )
    decoding = decoding_times(times)
    for index, (packet, data) in enumerate(journal.packets()):
        yield Encoded(data, packet.pts, int(decoding[index]), packet.duration, packet.key)


_LONGEST_LEAD = 64
"""How many usual steps before it is shown a picture is decoded at most, where times leap."""


def decoding_times(
    times: "np.ndarray[tuple[int], np.dtype[np.int64]]",
) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Times of decoding, strictly rising and never behind those of presentation.

    Args:
        times: of presentation, in the order of decoding; no two are equal.
    """
    if not len(times):
        return times
    shown = np.sort(times)
    place = np.searchsorted(shown, times)
    delay = int(np.max(np.arange(len(times)) - place))
    step = int(shown[1] - shown[0]) if len(shown) > 1 else 1
    before = shown[0] - step * np.arange(delay, 0, -1)
    decoding = np.concatenate([before, shown])[: len(times)]
    # Behind a leap in the times that would be long before the picture is shown, which no container likes: no
    # earlier, then, than a little before the first of all that are still to be shown.
    usual = int(np.median(np.diff(shown))) if len(shown) > 1 else 1
    next_shown = np.minimum.accumulate(times[::-1])[::-1]
    floor = next_shown - usual * max(4 * delay, _LONGEST_LEAD)
    if (decoding >= floor).all():
        return decoding
    for index in range(len(decoding)):
        least = floor[index] if index == 0 else max(floor[index], decoding[index - 1] + 1)
        decoding[index] = max(decoding[index], least)
    return decoding
