"""One video file, enlarged into another."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from subpixel import arguments
from subpixel.content import content_of_film
from subpixel.engines.select import available_cpus
from subpixel.errors import InputError, naming
from subpixel.files import PIPE, make_folder_of, refuse_existing, refuse_input, without_empty_folders
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
    input: str | Path,
    output: str | Path,
    *,
    scale: int | None = None,
    model: str | None = None,
    content: str | None = None,
    engine: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    upscaler: "Upscaler | None" = None,
    codec: str = "auto",
    crf: float | None = None,
    preset: str | None = None,
    codec_options: Mapping[str, str] | None = None,
    container: str | None = None,
    start: float | Fraction = 0,
    end: float | Fraction | None = None,
    overwrite: bool = False,
    drop_unsupported: bool = False,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> VideoResult:
    """Enlarge a video; sound, subtitles, chapters and all else stay as they are.

    The output appears under its name only when it is whole. A job that was killed and is started again with
    the same arguments goes on from what it had done, which lies in a folder beside the output until then;
    not so where one end is a pipe.

    Args:
        input: the file, or "-" for stdin.
        output: the file to write, whose extension decides the container, or "-" for stdout.
        scale: how many times larger each side becomes; x2 when no model is named either.
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
        progress: called now and then.

    Raises:
        InputError: the input cannot be read, or gives no frame.
        OutputError: the output exists, is the input, or cannot hold or be given the result.
        ModelError, EngineError: see `load`.
        ValueError: the codec does not know what is asked of it, or there is no such codec, container or part.
        BrokenPipeError: whoever read from stdout has closed it.
    """
    arguments.check_paths(input=input, output=output)
    arguments.check_texts(codec=codec, preset=preset, container=container)
    arguments.check_numbers(crf=crf, start=start, end=end)
    arguments.check_mappings(codec_options=codec_options)
    encoding = Encoding(codec, crf, preset, codec_options or {})
    input, output = str(input), str(output)
    kind = _container(output, container)
    # By their digits: 0.2 is meant, not the binary number behind it, which is a little more.
    time_range = TimeRange(Fraction(str(start)), None if end is None else Fraction(str(end)))
    check_paths(input, output, overwrite)
    others = ("stdout:",) if output == PIPE else (f"{output}:", str(folder_beside(Path(output))))
    with naming("stdin" if input == PIPE else input, *others):
        return _upscale(
            input,
            output,
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
                guess=lambda: content_of_film(Path(input)),
            ),
            overwrite=overwrite,
            drop_unsupported=drop_unsupported,
            progress=progress,
        )


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
    progress: Callable[[Progress], None],
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


def _container(output: str, name: str | None) -> Container:
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
        notices=(*plan.notices, *decode_errors.notices, *losses_later(decode_errors.carried_later, codec)),
    )
