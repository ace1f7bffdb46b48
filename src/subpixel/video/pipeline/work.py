"""A plan carried out: all written as it comes, or in segments that outlive a kill and are joined at the
end.
"""

import contextlib
import dataclasses
import hashlib
import heapq
import shutil
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from subpixel.errors import OutputError
from subpixel.files import PIPE, write_atomically
from subpixel.video.media.containers import Y4M
from subpixel.video.media.decode_errors import DecodeErrors
from subpixel.video.media.mux import Muxer, Y4mWriter
from subpixel.video.media.source import is_packet, open_source
from subpixel.video.pipeline.encode import (
    SEGMENT_FRAMES,
    Begin,
    Encoded,
    encode,
    encode_segments,
    joined,
)
from subpixel.video.pipeline.plan import Plan
from subpixel.video.pipeline.progress import ProgressTracker
from subpixel.video.pipeline.segments import Journal

if TYPE_CHECKING:
    from av import Packet, VideoFrame


_UNEVEN_SECONDS = 0.1
"""Off their times frames may be without a word: as far as sound may be off a picture before one sees it."""

_TIMES = 2
"""Changes whenever frames get other times than an earlier version gave them: the two must not be mixed."""

_LONGEST_NAME = 100
"""Characters of the output's name in that of the folder beside it."""


def run_through(plan: Plan, output: str, overwrite: bool, tracker: ProgressTracker) -> DecodeErrors:
    """Write all as it comes: for pipes, whose input cannot be read twice.

    Raises:
        BrokenPipeError: whoever read from stdout has closed it.
        OutputError: the output cannot be written.
    """
    codec = plan.encoder.open()
    with _telling(output), _place(output, overwrite) as place, contextlib.ExitStack() as stack:
        writer = stack.enter_context(_writer(plan, place))
        packets = tracker.line.add("demux", plan.source.packets)
        read = tracker.line.add("decode", plan.source.events, packets)
        large = _enlarged(read, plan, tracker)
        for item in tracker.line.add("encode", lambda items: encode(items, codec), large):
            tracker.writing(_put, writer, item)
            tracker.tell()
        tracker.writing(stack.close)
    return plan.source.decode_errors


def run_in_segments(plan: Plan, output: Path, overwrite: bool, tracker: ProgressTracker) -> DecodeErrors:
    """Encode in segments that are kept on disk, those of an earlier run included; join them at the end.

    Raises `OutputError` where the output or the segments cannot be written; what is done is kept.
    """
    folder = folder_beside(output)
    facts = _facts(plan)
    done = Journal.outcome_of(folder, facts, output)
    if done is not None:
        # Killed when the output had its name already, before all was tidied up.
        shutil.rmtree(folder, ignore_errors=True)
        tracker.resumed = done["frames"]
        return DecodeErrors(**done)
    journal = Journal(folder, facts)
    try:
        if journal.discarded:
            plan.notices.append(f"{journal.discarded}; that part is made again")
        tracker.resumed = sum(segment.frames for segment in journal.segments.values())
        if journal.outcome is None:
            _make_segments(plan, journal, tracker)
            journal.finish(dataclasses.asdict(plan.source.decode_errors))
        assert journal.outcome is not None
        decode_errors = DecodeErrors(**journal.outcome)
        tracker.writing(_join, plan, journal, output, overwrite)
    except BaseException:
        tracker.line.close()
        if journal.segments:
            journal.close()
        else:
            journal.remove()
        raise
    journal.remove()
    return decode_errors


def folder_beside(output: Path) -> Path:
    """Where the segments of an output lie until it is whole."""
    name = output.name
    if len(name) > _LONGEST_NAME:
        name = f"{name[:60]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return output.parent / f".{name}.subpixel"


def earlier_threads(output: Path) -> int | None:
    """How many threads the encoder of an earlier, unfinished run had: another number makes other packets."""
    threads = Journal.facts(folder_beside(output)).get("threads")
    return threads if isinstance(threads, int) and threads > 0 else None


def _make_segments(plan: Plan, journal: Journal, tracker: ProgressTracker) -> None:
    source = plan.source
    source.only_video()
    done = frozenset(journal.segments)
    packets = tracker.line.add("demux", source.packets)
    read = tracker.line.add("decode", lambda packets: filter(_is_frame, source.events(packets)), packets)
    large = _enlarged(read, plan, tracker, done)
    pieces = tracker.line.add("encode", lambda frames: encode_segments(frames, plan.encoder), large)
    writer = None
    try:
        for piece in pieces:
            if isinstance(piece, Begin):
                writer = journal.start(piece.number)
                continue
            assert writer is not None
            if isinstance(piece, Encoded):
                tracker.writing(writer.write, piece.data, piece.pts, piece.duration, piece.key)
            else:
                tracker.writing(writer.keep, piece.frames)
                writer = None
            tracker.tell()
    finally:
        if writer is not None:
            writer.drop()


def _is_frame(event: Union["Packet", "VideoFrame"]) -> bool:
    return not is_packet(event)


def _enlarged(
    events: Iterable[Union["Packet", "VideoFrame"]],
    plan: Plan,
    tracker: ProgressTracker,
    done: frozenset[int] = frozenset(),
) -> Iterator[Union["Packet", tuple[int, "VideoFrame"]]]:
    """Frames made large, several at once, with their numbers; packets pass.

    Segments that are done are passed over.
    """
    enlarge = plan.frame_upscaler()

    def work(item: Union["Packet", tuple[int, "VideoFrame"]]) -> Union["Packet", tuple[int, "VideoFrame"]]:
        if not isinstance(item, tuple):
            return item
        number, frame = item
        large = enlarge(frame)
        tracker.made_one()
        return number, large

    return tracker.line.add_calls(
        "upscale", work, _numbered(events, plan, done), plan.compiled.frames_at_once
    )


def _numbered(
    events: Iterable[Union["Packet", "VideoFrame"]], plan: Plan, done: frozenset[int]
) -> Iterator[Union["Packet", tuple[int, "VideoFrame"]]]:
    """Frames with their numbers, all of the first one's size; packets pass."""
    first = plan.source.first
    width, height = first.width, first.height
    number = -1
    for event in events:
        if is_packet(event):
            yield event  # type: ignore[misc]
            continue
        frame: Any = event
        number += 1
        if number // SEGMENT_FRAMES in done:
            continue
        if (frame.width, frame.height) != (width, height):
            plan.source.decode_errors.resized += 1
            frame = frame.reformat(width, height, interpolation="BICUBIC")
        yield number, frame


def _join(plan: Plan, journal: Journal, output: Path, overwrite: bool) -> None:
    """Write the output: the segments' pictures, and all else of the input, which is read once more."""
    with write_atomically(output, overwrite=overwrite) as part, _telling(str(output)):
        with _writer(plan, part) as writer:
            for item in _by_time(joined(journal), _copies(plan), plan.encoder.time_base):
                _put(writer, item)
        journal.write(part)


def _copies(plan: Plan) -> Iterator["Packet"]:
    """The packets of the input's other streams, from its beginning."""
    if plan.source.others:
        with contextlib.closing(open_source(plan.source.name, plan.source.time_range)) as source:
            yield from source.copies()


@contextlib.contextmanager
def _writer(plan: Plan, place: Path | None) -> Iterator[Muxer | Y4mWriter]:
    """What writes the plan's container to a file, or to stdout where there is no place; closed at the end."""
    if plan.container is Y4M:
        with open(1, "wb", closefd=False) if place is None else place.open("wb") as file:
            y4m = Y4mWriter(file, plan.track)
            yield y4m
            y4m.close()
        if y4m.off_seconds > _UNEVEN_SECONDS:
            plan.notices.append(
                f"YUV4MPEG2 has one frame rate: frames come up to {y4m.off_seconds:.2f} s off their times"
            )
        return
    muxer = Muxer(place, plan.container, plan.source, plan.track)
    yield muxer
    muxer.close()
    if muxer.refused:
        plan.notices.append(f"{muxer.refused} damaged packets of other streams are left out")


def _put(writer: Muxer | Y4mWriter, item: Union[Encoded, "Packet"]) -> None:
    if isinstance(item, Encoded):
        writer.video(item)
    else:
        writer.copy(item)


def _by_time(
    pictures: Iterable[Encoded], packets: Iterable["Packet"], base: Fraction
) -> Iterator[Union[Encoded, "Packet"]]:
    """Both, by time of decoding, so that the container's interleaving has little to wait for.

    Pictures count in units of ``base``, packets in their own.
    """

    def seconds(packet: "Packet") -> float:
        return float((packet.dts or 0) * (packet.time_base or 0))

    timed_pictures: Iterator[tuple[float, Any]] = (
        (float(picture.dts * base), picture) for picture in pictures
    )
    timed_packets: Iterator[tuple[float, Any]] = ((seconds(packet), packet) for packet in packets)
    for _, item in heapq.merge(timed_pictures, timed_packets, key=lambda timed: timed[0]):
        yield item


def _facts(plan: Plan) -> dict[str, Any]:
    """What decides the picture, for the journal."""
    encoder = dataclasses.asdict(plan.encoder)
    engine = plan.engine
    return {
        "input": _digest_of_file(Path(plan.source.name)),
        "part": [str(plan.source.time_range.start), str(plan.source.time_range.end)],
        "times": [_TIMES, str(plan.source.shift)],
        "model": plan.compiled.model.digest(),
        "engine": [engine.name, engine.precision, engine.target],
        "threads": encoder.pop("threads"),
        "encoder": {key: str(value) for key, value in encoder.items()},
        "segment": SEGMENT_FRAMES,
    }


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _place(output: str, overwrite: bool) -> Iterator[Path | None]:
    """A file that takes the output's name when it is whole; None for stdout."""
    if output == PIPE:
        yield None
    else:
        with write_atomically(Path(output), overwrite=overwrite) as part:
            yield part


@contextlib.contextmanager
def _telling(output: str) -> Iterator[None]:
    """Turn a failure to write into our error; a pipe that was closed stays what it is."""
    import av

    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, av.FFmpegError) as error:
        name = "stdout" if output == PIPE else output
        raise OutputError(
            f"{name}: could not be written ({getattr(error, 'strerror', None) or error})"
        ) from error
