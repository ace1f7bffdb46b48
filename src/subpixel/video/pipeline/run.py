"""Run a planned job: as a stream, or in segments on disk that survive an interruption and are joined."""

import contextlib
import dataclasses
import hashlib
import heapq
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from subpixel.errors import InputError, OutputError
from subpixel.files import PIPE
from subpixel.storage.outputs import write_whole
from subpixel.storage.paths import Location, locate
from subpixel.video.media.containers import Y4M
from subpixel.video.media.decode_errors import DecodeErrors
from subpixel.video.media.encoded_frame import EncodedFrame
from subpixel.video.media.mux import Muxer
from subpixel.video.media.pixel_formats import reformat
from subpixel.video.media.source import is_packet, open_source
from subpixel.video.media.y4m import Y4mWriter
from subpixel.video.pipeline.decode import SegmentFrames, WarmUp
from subpixel.video.pipeline.encode import (
    SEGMENT_FRAMES,
    SegmentStart,
    encode,
    encode_segments,
    joined_frames,
)
from subpixel.video.pipeline.links import FrameLink, linked
from subpixel.video.pipeline.outputs import record_output, remove_job
from subpixel.video.pipeline.plan import VideoPlan
from subpixel.video.pipeline.progress import ProgressTracker
from subpixel.video.pipeline.segments import SegmentFolder
from subpixel.video.pipeline.work import AllSegments, NoSegments, Work

if TYPE_CHECKING:
    from av import Packet, VideoFrame


_SILENT_OFFSET_SECONDS = 0.1
"""How far frames may be off their times without a warning; a viewer notices larger offsets from the sound."""

_MAX_NAME_CHARACTERS = 100
"""Longer names of outputs are abbreviated in the name of the job's folder."""


def run_streaming(plan: VideoPlan, output: str, overwrite: bool, tracker: ProgressTracker) -> DecodeErrors:
    """Write frames and packets as they come. This is for pipes, which cannot be read twice.

    Raises:
        BrokenPipeError: the reader of stdout closed it.
        OutputError: the output cannot be written.
    """
    codec = plan.encoder.open()
    with _write_errors(output), _partial_file(output, overwrite) as path, contextlib.ExitStack() as stack:
        writer = stack.enter_context(_writer(plan, path))
        packets = tracker.pipeline.add("demux", plan.source.packets)
        decoded = tracker.pipeline.add("decode", plan.source.events, packets)
        upscaled = _upscaled(_numbered(_deinterlaced(decoded, plan, tracker), plan), plan, tracker)
        for item in tracker.pipeline.add("encode", lambda items: encode(items, codec), upscaled):
            tracker.timed_write(_put, writer, item)
            tracker.report()
        tracker.timed_write(stack.close)
    return plan.source.decode_errors


def run_in_segments(
    plan: VideoPlan, folder: SegmentFolder, output: Location, overwrite: bool, tracker: ProgressTracker
) -> DecodeErrors:
    """Encode the missing segments of a job, join them with the input's other streams, and remove the folder.

    The folder must be opened alone. Raises `OutputError` if the output or a segment cannot be written;
    finished segments stay.
    """
    try:
        plan.warnings += folder.warnings
        tracker.resumed_frames = sum(segment.frames for segment in folder.segments.values())
        if missing_segments(folder) != []:
            encode_missing(plan, folder, tracker, AllSegments(folder))
        find_outcome(plan, folder, tracker)
        assert folder.outcome is not None
        tracker.timed_write(join, plan, folder, output, overwrite)
    except BaseException:
        tracker.pipeline.close()
        if not folder.segments:
            with contextlib.suppress(OutputError):
                remove_job(folder)
        folder.close()
        raise
    folder.remove()
    return DecodeErrors(**folder.outcome)


def job_folder(output: Location) -> Location:
    """Return the folder beside an output that stores its segments until the output is complete."""
    name = output.name
    if len(name) > _MAX_NAME_CHARACTERS:
        name = f"{name[:60]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return output.parent / f".{name}.subpixel"


def count_segments(frames: int) -> int:
    """Return how many segments a number of frames makes."""
    return -(-frames // SEGMENT_FRAMES)


def segment_count(folder: SegmentFolder) -> int | None:
    """Return how many segments there are; None if only decoding the input to its end shows it."""
    if folder.count is not None or folder.outcome is None:
        return folder.count
    return count_segments(folder.outcome["output_frames"])


def missing_segments(folder: SegmentFolder) -> list[int] | None:
    """Return the numbers of the segments that are not stored; None if the number of segments is not known."""
    count = segment_count(folder)
    return None if count is None else [number for number in range(count) if number not in folder.segments]


def encode_missing(plan: VideoPlan, folder: SegmentFolder, tracker: ProgressTracker, work: Work) -> None:
    """Decode the segments that ``work`` wants, from the nearest key frames if possible, and encode them.

    The folder has an outcome afterwards if none is missing, or if all frames had to be decoded. Raises
    `OutputError` if a segment cannot be written, and `InputError` if the input was changed; finished segments
    stay.
    """
    resumes = bool(folder.segments) or not work.wants_all
    assert folder.index is not None
    frames = SegmentFrames(plan, folder.index)
    upscaled = _upscaled(frames.numbered(work, tracker.pipeline), plan, tracker)
    encoded = tracker.pipeline.add("encode", lambda frames: encode_segments(frames, plan.encoder), upscaled)
    writer = None
    try:
        for item in encoded:
            if isinstance(item, SegmentStart):
                number = item.number
                writer = folder.start_segment(number)
                continue
            assert writer is not None
            if isinstance(item, EncodedFrame):
                tracker.timed_write(writer.write, item.data, item.pts, item.duration, item.is_keyframe)
            else:
                plan.source.check_unchanged()
                errors = dataclasses.asdict(frames.errors(number))
                tracker.timed_write(writer.commit, item.frames, errors)
                writer = None
                work.finish(number)
            tracker.report()
    finally:
        if writer is not None:
            writer.discard()
    if frames.late_start or (frames.refusal and resumes):
        reason = frames.refusal or frames.late_start
        plan.warnings.append(f"was decoded from its start, not only what was missing, because {reason}")
    plan.source.check_unchanged()
    if frames.has_all:
        folder.record_outcome(dataclasses.asdict(plan.source.decode_errors))
    else:
        _add_up_errors(folder, frames)


def find_outcome(plan: VideoPlan, folder: SegmentFolder, tracker: ProgressTracker) -> None:
    """Find the decode errors of the input, when no segment is missing; it may have to be decoded for that."""
    if folder.outcome is None:
        assert folder.index is not None
        _add_up_errors(folder, SegmentFrames(plan, folder.index))
    if folder.outcome is None:
        encode_missing(plan, folder, tracker, NoSegments())


def errors_so_far(folder: SegmentFolder) -> DecodeErrors:
    """Return the decode errors of the input, or of the segments that are there, with the frames of all."""
    if folder.outcome is not None:
        return DecodeErrors(**folder.outcome)
    stored = [folder.segments[number].errors for number in sorted(folder.segments)]
    errors = DecodeErrors.merged(DecodeErrors(**each) for each in stored)
    if missing_segments(folder) and folder.frames is not None:
        errors.output_frames = folder.frames
    return errors


def _add_up_errors(folder: SegmentFolder, frames: SegmentFrames) -> None:
    """Record the outcome if all segments are there and without damage."""
    if folder.outcome is None and missing_segments(folder) == []:
        segments = folder.segments.items()
        if all(frames.is_clean(number, DecodeErrors(**each.errors)) for number, each in segments):
            folder.record_outcome(dataclasses.asdict(errors_so_far(folder)))


def _deinterlaced(
    events: Iterator[Union["Packet", "VideoFrame"]], plan: VideoPlan, tracker: ProgressTracker
) -> Iterator[Union["Packet", "VideoFrame"]]:
    """Start the stage that deinterlaces frames, unless that is off."""
    if plan.deinterlacing.mode == "off":
        return events
    apply: Any = plan.deinterlacing.apply
    return tracker.pipeline.add("deinterlace", apply, events)


def _upscaled(
    items: Iterator[Any], plan: VideoPlan, tracker: ProgressTracker
) -> Iterator[Union["Packet", tuple[int, "VideoFrame"]]]:
    """Start the stage that upscales numbered frames, several at once, and passes everything else."""
    upscale = plan.frame_upscaler()

    def is_frame(item: Any) -> bool:
        return isinstance(item, tuple) and item[1] is not None

    def upscale_item(linked_item: tuple[Any, FrameLink | None]) -> Any:
        item, link = linked_item
        if link is None:
            return item
        number, frame = item
        with link:
            if isinstance(item, WarmUp):
                upscale.warm_up(frame, link, number)
                return None
            result = upscale(frame, link, number)
        tracker.count_frame(link.copied_share)
        return number, result

    frames_at_once = plan.frames_at_once
    stage = tracker.pipeline.add_parallel("upscale", upscale_item, linked(items, is_frame), frames_at_once)
    return (item for item in stage if item is not None)


def _numbered(
    events: Iterable[Union["Packet", "VideoFrame"]], plan: VideoPlan
) -> Iterator[Union["Packet", tuple[int, "VideoFrame"]]]:
    """Number the frames, scale them to the size of the first one, and pass packets."""
    from av.video.reformatter import VideoReformatter

    first, errors = plan.source.first_frame, plan.source.decode_errors
    for event in events:
        if is_packet(event):
            yield event  # type: ignore[misc]
            continue
        frame: Any = event
        errors.output_frames += 1
        if (frame.width, frame.height) != (first.width, first.height):
            errors.resized += 1
            frame = reformat(VideoReformatter(), frame, first.width, first.height, bicubic=True)
        yield errors.output_frames - 1, frame


def join(plan: VideoPlan, folder: SegmentFolder, output: Location, overwrite: bool) -> None:
    """Write the output: the frames of all segments, and the other streams, read from the input again."""
    with write_whole(output, overwrite=overwrite) as partial, _write_errors(str(output)):
        with _writer(plan, partial) as writer:
            for item in _by_time(joined_frames(folder), _copies(plan), plan.encoder.time_base):
                _put(writer, item)
        plan.source.check_unchanged()
        record_output(folder, partial)


def _copies(plan: VideoPlan) -> Iterator["Packet"]:
    """Read the packets of the input's other streams again, from the start."""
    if plan.source.others:
        with contextlib.closing(open_source(plan.source.name, plan.source.timeline.time_range)) as source:
            try:
                yield from source.copies()
            except OSError as error:
                reason = error.strerror or error
                raise InputError(f"{plan.source.name}: could not be read ({reason})") from error


@contextlib.contextmanager
def _writer(plan: VideoPlan, path: Path | None) -> Iterator[Muxer | Y4mWriter]:
    """Open a writer of the plan's container, to a file or, without a path, to stdout; close it at the end."""
    if plan.container is Y4M:
        with open(1, "wb", closefd=False) if path is None else path.open("wb") as file:
            y4m = Y4mWriter(file, plan.encoder)
            yield y4m
            y4m.close()
        if y4m.max_time_error_seconds > _SILENT_OFFSET_SECONDS:
            plan.warnings.append(
                f"YUV4MPEG2 has one frame rate: frames are up to {y4m.max_time_error_seconds:.2f} s "
                "off their times"
            )
        return
    muxer = Muxer(path, plan.container, plan.source, plan.track)
    yield muxer
    muxer.close()
    if muxer.refused_packets:
        plan.warnings.append(f"{muxer.refused_packets} damaged packets of other streams are dropped")


def _put(writer: Muxer | Y4mWriter, item: Union[EncodedFrame, "Packet"]) -> None:
    if isinstance(item, EncodedFrame):
        writer.write(item)
    else:
        writer.copy(item)


def _by_time(
    frames: Iterable[EncodedFrame], packets: Iterable["Packet"], base: Fraction
) -> Iterator[Union[EncodedFrame, "Packet"]]:
    """Merge frames and packets by decoding time, so that the muxer's interleaving buffers little.

    Times of frames are in units of ``base``, those of packets in their own.
    """

    def seconds(packet: "Packet") -> float:
        return float((packet.dts or 0) * (packet.time_base or 0))

    timed_frames: Iterator[tuple[float, Any]] = ((float(frame.dts * base), frame) for frame in frames)
    timed_packets: Iterator[tuple[float, Any]] = ((seconds(packet), packet) for packet in packets)
    for _, item in heapq.merge(timed_frames, timed_packets, key=lambda timed: timed[0]):
        yield item


@contextlib.contextmanager
def _partial_file(output: str, overwrite: bool) -> Iterator[Path | None]:
    """Yield the path of a temporary file that is renamed to ``output`` on success; None for stdout."""
    if output == PIPE:
        yield None
    else:
        with write_whole(locate(output), overwrite=overwrite) as part:
            yield part


@contextlib.contextmanager
def _write_errors(output: str) -> Iterator[None]:
    """Turn a failure to write into `OutputError`; `BrokenPipeError` stays as it is."""
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
