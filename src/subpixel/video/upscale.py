"""One video file, enlarged into another."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from subpixel import arguments
from subpixel.content import content_of_film
from subpixel.engines.select import available_cpus
from subpixel.errors import InputError, naming
from subpixel.files import (
    PIPE,
    Source,
    Target,
    as_paths,
    make_folder_of,
    refuse_existing,
    refuse_input,
    without_empty_folders,
)
from subpixel.options import ContainerName, ContentKind, EngineName, Precision
from subpixel.results import Progress, VideoResult
from subpixel.selection import Selection, select
from subpixel.video.media.codecs import Encoding
from subpixel.video.media.containers import OUTPUT_EXTENSIONS, Y4M, Container, container_named, container_of
from subpixel.video.media.decode_errors import DecodeErrors
from subpixel.video.media.losses import losses_later
from subpixel.video.media.source import is_regular, open_source
from subpixel.video.media.time_range import TimeRange
from subpixel.video.media.trial import check_output
from subpixel.video.pipeline.plan import Plan, make_plan
from subpixel.video.pipeline.progress import ProgressTracker
from subpixel.video.pipeline.segments import Journal
from subpixel.video.pipeline.stages import patiently
from subpixel.video.pipeline.work import earlier_threads, folder_beside, run_in_segments, run_through

if TYPE_CHECKING:
    from subpixel.upscaler import Upscaler


_PATIENCE_SECONDS = 2
"""For which a pipe that gives nothing is waited for when a job is to stop."""


@without_empty_folders
def upscale_video(
    input: Source,
    output: Target,
    *,
    scale: int | None = None,
    model: str | os.PathLike[str] | None = None,
    content: ContentKind | None = None,
    engine: EngineName = "auto",
    precision: Precision = "auto",
    threads: int | None = None,
    upscaler: "Upscaler | None" = None,
    codec: str = "auto",
    crf: float | None = None,
    preset: str | None = None,
    codec_options: Mapping[str, str] | None = None,
    container: ContainerName | None = None,
    start: float | Fraction = 0,
    end: float | Fraction | None = None,
    overwrite: bool = False,
    drop_unsupported: bool = False,
    progress: Callable[[Progress], object] = lambda progress: None,
) -> VideoResult:
    """Make a video larger; sound, subtitles, chapters and all else stay as they are.

    The output appears under its name only when it is complete. An interrupted job resumes when it is started
    again with the same arguments; what it had done lies in a folder beside the output until then. Jobs that
    read or write a pipe or a file object do not resume.

    >>> import subpixel
    >>> result = subpixel.upscale_video("film.mp4", "film-large.mkv", scale=2, crf=16)
    >>> result.width, result.height, result.frames
    (96, 80, 3)

    Args:
        input: what FFmpeg reads: a path, its bytes, a file object opened for reading bytes, or "-" for stdin.
        output: the file to write: a path, whose extension selects the container; a file object opened for
            writing bytes, with ``container``; or "-" for stdout.
        scale: how many times larger each side becomes; 2 when no model is named either.
        model: the name of a packaged model or the path of a ``.safetensors`` file.
        content: instead of a model what became of the video before: "clean", "compressed", or "auto", the
            default, which takes files named ``.y4m`` for clean and all else for compressed.
        engine, precision, threads: see `subpixel.Upscaler`.
        upscaler: one from `load`, instead of all of these.
        codec: FFmpeg's name of the encoder, such as "libx264"; "auto" takes what suits container and depth.
        crf: the quality, smaller is better, on the codec's own scale; 18 by default for libx264.
        preset: the codec's own word for how much time it takes; "veryfast" by default for libx264.
        codec_options: any other of the encoder's options, such as ``{"tune": "film"}``.
        container: "mp4", "mkv", "mov", "webm" or "y4m", where the output's name does not say; y4m for stdout.
        start, end: the part that is wanted, in seconds from the beginning; its times then start at 0.
        overwrite: whether an existing output is replaced.
        drop_unsupported: whether streams that the container cannot hold are left out, instead of refused.
        progress: called now and then, at last with a fraction of 1.

    Raises:
        InputError: the input cannot be read, or gives no frame.
        OutputError: the output exists, is the input, or cannot hold or be given the result.
        ModelError, EngineError: see `load`.
        ValueError, TypeError: a wrong argument: the codec does not know what is asked of it, or there is no
            such codec, container or part.
        BrokenPipeError: whoever read from stdout has closed it.
    """
    arguments.check_files(input=input, output=output)
    arguments.check_texts(codec=codec, preset=preset, container=container)
    arguments.check_numbers(crf=crf, start=start, end=end)
    arguments.check_mappings(codec_options=codec_options)
    encoding = Encoding(codec, crf, preset, codec_options or {})
    kind = _container(output, container)
    # By their digits: 0.2 is meant, not the binary number behind it, which is a little more.
    time_range = TimeRange(Fraction(str(start)), None if end is None else Fraction(str(end)))
    with as_paths(input, output, kind.extensions[0]) as paths:
        source, target = paths.input, paths.output
        check_paths(source, target, overwrite)
        others = ("stdout:",) if target == PIPE else (f"{target}:", str(folder_beside(Path(target))))
        with naming("stdin" if source == PIPE else source, *others):
            result = _upscale(
                source,
                target,
                kind,
                time_range,
                encoding,
                lambda: select(
                    upscaler,
                    model=model,
                    scale=scale,
                    content=content,
                    engine=engine,
                    precision=precision,
                    threads=threads,
                    guess=lambda: content_of_film(Path(source)),
                ),
                overwrite=overwrite,
                drop_unsupported=drop_unsupported,
                progress=progress,
            )
    return replace(result, input=paths.input_name, output=paths.output_name)


def _upscale(
    input: str,
    output: str,
    kind: Container,
    time_range: TimeRange,
    encoding: Encoding,
    load: Callable[[], Selection],
    *,
    overwrite: bool,
    drop_unsupported: bool,
    progress: Callable[[Progress], object],
) -> VideoResult:
    """What `upscale_video` does once it is known what is asked for."""
    regular = is_regular(input)
    piped = not is_resumable(input, output)
    tracker = ProgressTracker(progress)
    with _failing():
        opened = (
            open_source(input, time_range) if regular else patiently(lambda: open_source(input, time_range))
        )
    with contextlib.closing(opened) as source:
        choice = load()
        encoder_threads = (None if piped else earlier_threads(Path(output))) or available_cpus()
        plan = make_plan(
            source,
            choice.upscaler.compiled,
            kind,
            encoding,
            threads=encoder_threads,
            drop_unsupported=drop_unsupported,
            to_pipe=output == PIPE,
        )
        plan.notices += check_output(kind, source, plan.track, to_pipe=output == PIPE)
        tracker.rate, tracker.total = float(source.rate), source.expected_frames
        try:
            with _failing():
                if piped:
                    decode_errors = run_through(plan, output, overwrite, tracker)
                else:
                    decode_errors = run_in_segments(plan, Path(output), overwrite, tracker)
        finally:
            source.is_waited_for = not tracker.line.close(None if regular else _PATIENCE_SECONDS)
        tracker.tell(last=True)
        return _report(plan, choice, input, output, tracker, decode_errors)


@contextlib.contextmanager
def _failing() -> Iterator[None]:
    """Turn FFmpeg's failures, and wrong values while a film is at work, into ours.

    Before and after, a ValueError is of what was asked for.
    """
    import av

    try:
        yield
    except BrokenPipeError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or error
        raise InputError(f"could not be enlarged ({words})") from error


def is_resumable(input: str, output: str) -> bool:
    """Whether a job that is killed can be continued: not where one end is a pipe."""
    return output != PIPE and is_regular(input)


def check_paths(input: str, output: str, overwrite: bool) -> None:
    """Refuse, before anything is read, what could only fail at the end; make the output's folder."""
    if output == PIPE:
        return
    path = Path(output)
    if is_regular(input):
        refuse_input(path, Path(input))
    if not overwrite and not Journal.has_written(folder_beside(path), path):
        refuse_existing(path)
    make_folder_of(path)


def _container(output: Target, name: str | None) -> Container:
    if not isinstance(output, str | os.PathLike):
        if name is None:
            raise ValueError("the output is a file object: say which container, such as container='mkv'")
        return container_named(name)
    output = os.fspath(output)
    if name is None:
        return Y4M if output == PIPE else container_of(Path(output))
    container = container_named(name)
    if output != PIPE and Path(output).suffix.lower() in OUTPUT_EXTENSIONS:
        by_name = container_of(Path(output))
        if by_name is not container:
            raise ValueError(f"{output}: is {by_name.name} by its name, not {container.name}; name one alone")
    return container


def _report(
    plan: Plan,
    choice: Selection,
    input: str,
    output: str,
    tracker: ProgressTracker,
    decode_errors: DecodeErrors,
) -> VideoResult:
    codec = plan.encoder.codec.name
    return VideoResult(
        input=input,
        output=output,
        **choice.as_result(plan.engine),
        codec=codec,
        width=plan.encoder.width,
        height=plan.encoder.height,
        frames=decode_errors.frames,
        resumed_frames=tracker.resumed,
        seconds=round(tracker.seconds, 3),
        frames_per_second=round(tracker.frames_per_second, 2),
        stages=tracker.stages(),
        bottleneck=tracker.bottleneck,
        damaged_frames=decode_errors.damaged,
        missing_frames=decode_errors.missing,
        lost_frames=decode_errors.lost,
        damaged_share=round(decode_errors.share, 4),
        warnings=(*plan.notices, *decode_errors.notices, *losses_later(decode_errors.carried_later, codec)),
    )
