"""`subpixel upscale`: make pictures and videos larger."""

import json
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from subpixel.batch import Job
from subpixel.cli.display import Display, abandon_stdout, display, to_stdout
from subpixel.cli.errors import exiting, saying, stoppable
from subpixel.cli.usage import (
    PICTURES,
    VIDEOS,
    folder_to_be,
    refuse_terminal,
    refuse_unused,
    remarks,
)
from subpixel.errors import SubpixelError
from subpixel.files import PIPE, is_folder
from subpixel.images.formats import DEFAULT_QUALITY, MAX_MEMORY_MIB, MAX_OUTPUT_PIXELS

MAX_DAMAGE = 0.1
"""The share of damaged frames above which a video counts as failed."""


@stoppable("interrupted")
def upscale(
    context: typer.Context,
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...", help="Pictures, videos, or folders of them; - is a video on stdin."
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="A file, whose extension decides the format; or a folder; - is stdout, for a video.",
        ),
    ],
    scale: Annotated[
        int | None,
        typer.Option(
            "--scale",
            "-s",
            min=1,
            max=8,
            help="Factor for each side: 2, which is the default, 3 or 4; others need a model of your own.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="A packaged model (see `subpixel models`) or a .safetensors file."
        ),
    ] = None,
    content: Annotated[
        str | None,
        typer.Option(
            help="Instead of a model, what became of the input before: auto, clean or compressed. auto, the "
            "default, takes pictures for compressed whose file says that they lost much to JPEG or WebP, and "
            "films that are not .y4m."
        ),
    ] = None,
    engine: Annotated[str, typer.Option(help="auto, halide, onnxruntime or numpy.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32 or int8.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default all.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")] = False,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Look into folders inside folders, and keep their tree.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each file.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell what is done, and why.")] = False,
    progress: Annotated[
        str, typer.Option(help="On stderr: auto (a bar on a terminal), json (lines, for programs) or none.")
    ] = "auto",
    quality: Annotated[
        int,
        typer.Option(
            min=1, max=100, help="Of JPEG and WebP; 100 makes WebP lossless.", rich_help_panel=PICTURES
        ),
    ] = DEFAULT_QUALITY,
    max_output_pixels: Annotated[
        int,
        typer.Option(
            min=1, help="Refuse what would become larger, before it is decoded.", rich_help_panel=PICTURES
        ),
    ] = MAX_OUTPUT_PIXELS,
    max_memory: Annotated[
        int,
        typer.Option(
            metavar="MIB",
            min=1,
            help="Refuse what would need more memory, before it is decoded.",
            rich_help_panel=PICTURES,
        ),
    ] = MAX_MEMORY_MIB,
    codec: Annotated[
        str,
        typer.Option(
            help="FFmpeg's encoder, such as libx264, libx265, libsvtav1 or ffv1.", rich_help_panel=VIDEOS
        ),
    ] = "auto",
    crf: Annotated[
        float | None,
        typer.Option(
            help="Quality, smaller is better, on the codec's scale; 18 for libx264.", rich_help_panel=VIDEOS
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="The codec's own word for its speed; veryfast for libx264.", rich_help_panel=VIDEOS
        ),
    ] = None,
    codec_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Any other option of the codec; may be repeated.",
            rich_help_panel=VIDEOS,
        ),
    ] = None,
    container: Annotated[
        str | None,
        typer.Option(help="mp4, mkv, mov, webm or y4m, for stdout; y4m by default.", rich_help_panel=VIDEOS),
    ] = None,
    start: Annotated[
        str, typer.Option(metavar="TIME", help="Begin there: seconds, or H:MM:SS.", rich_help_panel=VIDEOS)
    ] = "0",
    end: Annotated[
        str | None, typer.Option(metavar="TIME", help="End there, likewise.", rich_help_panel=VIDEOS)
    ] = None,
    drop_unsupported: Annotated[
        bool,
        typer.Option(
            "--drop-unsupported", help="Leave out what the container cannot hold.", rich_help_panel=VIDEOS
        ),
    ] = False,
    max_damage: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="A larger share of damaged or missing frames makes the exit code 1.",
            rich_help_panel=VIDEOS,
        ),
    ] = MAX_DAMAGE,
) -> None:
    """Make pictures and videos larger.

    Pictures are PNG, JPEG, WebP, TIFF and BMP: color profile, EXIF, transparency and 16 bits per sample are
    kept; the picture is turned upright. Videos are what FFmpeg reads, and become MP4, Matroska, QuickTime,
    WebM or YUV4MPEG2: sound, subtitles, chapters and all else are kept. A file that cannot be enlarged is
    named, and the others are done all the same.
    """
    from subpixel.batch import plan
    from subpixel.selection import check

    with exiting(2, ValueError, SubpixelError):
        if as_json and output == PIPE:
            raise ValueError("--json and -o - both want stdout")
        if progress not in ("auto", "json", "none"):
            raise ValueError(f"unknown --progress {progress!r}; known: auto, json, none")
        refuse_terminal(inputs, output)
        made_folder = folder_to_be(inputs, output)
        todo = plan(inputs, output, recursive=recursive)
        refuse_unused(context, todo.jobs)
        video_options: dict[str, Any] = {}
        if any(job.is_video for job in todo.jobs):
            video_options = _video_options(codec, crf, preset, codec_option or [], container, start, end)
            video_options["drop_unsupported"] = drop_unsupported
        options: dict[str, Any] = {
            "scale": scale,
            "model": model,
            "content": content,
            "engine": engine,
            "precision": precision,
            "threads": threads,
        }
        check(**options)
    failed = 0
    with (
        display(len(todo.jobs), bar=progress == "auto") as people,
        compiling_told(people, to_all=verbose),
    ):
        if verbose and todo.skipped:
            people.say(f"{todo.skipped} files left aside: neither pictures nor videos by their names")
        for number, job in enumerate(todo.jobs):
            people.show(number, job.source.name)
            try:
                report: Any
                with saying(_when_stopped(job)):
                    if job.is_video:
                        from subpixel.video.upscale import upscale_video

                        report = upscale_video(
                            job.source,
                            job.output,
                            **options,
                            overwrite=overwrite,
                            progress=_video_progress(people, number, job, lines=progress == "json"),
                            **video_options,
                        )
                    else:
                        from subpixel.images.upscale import upscale_image

                        report = upscale_image(
                            job.source,
                            job.output,
                            **options,
                            quality=quality,
                            overwrite=overwrite,
                            max_output_pixels=max_output_pixels,
                            max_memory_mib=max_memory,
                            progress=_picture_progress(people, number, job, lines=progress == "json"),
                        )
            except BrokenPipeError:
                abandon_stdout()
                raise typer.Exit(failed > 0) from None
            except Exception as error:
                # What a codec does not know, a ValueError, is seen only when a video is there to be encoded.
                asked = isinstance(error, ValueError)
                words = _words(job, error)
                people.say(f"error: {words}")
                if verbose and not isinstance(error, (SubpixelError, ValueError)):
                    people.say(traceback.format_exc())
                if asked and len(todo.jobs) == 1:
                    raise typer.Exit(2) from None
                failed += 1
                if as_json:
                    with to_stdout():
                        typer.echo(json.dumps({"input": str(job.source), "error": words}))
                continue
            for notice in (*report.warnings, *remarks(job)):
                people.say(f"note: {_name(job)}: {notice}")
            if as_json:
                with to_stdout():
                    # "notices" is what "warnings" was called; it goes in 0.3.
                    typer.echo(json.dumps({**asdict(report), "notices": report.warnings}))
            if verbose:
                people.say(_reasons(job, report))
            if verbose or people.is_terminal or (progress == "none" and sys.stderr.isatty()):
                people.say(_summary(job, report))
            if job.is_video and report.damaged_share > max_damage:
                failed += 1
                people.say(
                    f"error: {job.source}: {report.damaged_share:.0%} of it is damaged or missing, more than "
                    f"{max_damage:.0%}; {job.output} holds what could be made of it"
                )
        if made_folder is not None and is_folder(made_folder):
            people.say(
                f"note: {made_folder}: is a folder, made because its name ends in no extension such as .png; "
                f"the result is {todo.jobs[0].output}"
            )
    if failed:
        raise typer.Exit(1)


def _video_options(
    codec: str,
    crf: float | None,
    preset: str | None,
    codec_options: list[str],
    container: str | None,
    start: str,
    end: str | None,
) -> dict[str, Any]:
    """Arguments of `upscale_video`. Raises ValueError for what can be seen to be wrong without the input."""
    from subpixel.video.media.codecs import Encoding, find_codec, options_for
    from subpixel.video.media.containers import container_named
    from subpixel.video.media.time_range import TimeRange

    options = {}
    for option in codec_options:
        name, equals, value = option.partition("=")
        if not equals:
            raise ValueError(f"--codec-option {option!r}: write NAME=VALUE")
        options[name] = value
    if codec != "auto":
        options_for(find_codec(codec), Encoding(codec, crf, preset, options))
    if container is not None:
        container_named(container)
    time_range = TimeRange(_seconds(start), None if end is None else _seconds(end))
    encoding = {"codec": codec, "crf": crf, "preset": preset, "codec_options": options}
    return {**encoding, "container": container, "start": time_range.start, "end": time_range.end}


_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)")


def _seconds(time: str) -> Fraction:
    """A time as people write it: 90, 1:30 or 0:01:30.5."""
    if (found := _TIME.fullmatch(time.strip())) is None:
        raise ValueError(f"{time!r} is not a time; write seconds, or H:MM:SS")
    hours, minutes, seconds = found.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + Fraction(seconds)


def _picture_progress(people: Display, number: int, job: Job, *, lines: bool) -> Callable[[Any], None]:
    def show(progress: Any) -> None:
        people.show(number + progress.fraction, job.source.name)
        if lines:
            people.say(json.dumps({"input": str(job.source), "progress": round(progress.fraction, 4)}))

    return show


def _video_progress(people: Display, number: int, job: Job, *, lines: bool) -> Callable[[Any], None]:
    def show(progress: Any) -> None:
        if lines:
            fields = asdict(progress)
            fraction, total = fields.pop("fraction"), fields.pop("total_frames")
            line = {"input": str(job.source), "progress": round(fraction, 4), **fields, "total": total}
            people.say(json.dumps(line))
            return
        of = f"/{progress.total_frames}" if progress.total_frames else ""
        detail = (
            f"{progress.frames}{of} frames  {progress.frames_per_second:.1f} fps  "
            f"{progress.speed:.2f}x real time  slowest: {progress.bottleneck}"
        )
        people.show(number + progress.fraction, f"{job.source.name}  {detail}")

    return show


@contextmanager
def compiling_told(people: Display, *, to_all: bool) -> Iterator[None]:
    """Tell a terminal, or ``to_all``, of networks that are compiled: it takes seconds, once on a machine."""

    class Said(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if to_all or people.is_terminal:
                people.say(record.getMessage())

    log, said = logging.getLogger("subpixel.engines"), Said()
    before = log.level
    log.addHandler(said)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(before)
        log.removeHandler(said)


def _reasons(job: Job, report: Any) -> str:
    content = f" for {report.content} sources ({report.content_reason})" if report.content else ""
    return f"{job.source}: model {report.model}{content}, engine {report.reason}"


def _when_stopped(job: Job) -> str:
    """What is said where a signal ends the work on a file."""
    if not job.is_video:
        return "interrupted"
    from subpixel.video.upscale import is_resumable

    if not is_resumable(str(job.source), str(job.output)):
        return "interrupted; what goes through a pipe is lost: it cannot be continued, only made anew"
    return "interrupted; what is finished of a video is kept, and the same command goes on from there"


def _name(job: Job) -> str:
    return "stdin" if str(job.source) == PIPE else str(job.source)


def _words(job: Job, error: Exception) -> str:
    """An error for people. It names the file, whatever it comes from."""
    words = str(error)
    if not isinstance(error, (SubpixelError, ValueError)):
        words = f"failed as it never should ({type(error).__name__}: {words}); please report it, with -v"
    beside = job.output.parent / f".{job.output.name[:60]}"
    named = words.startswith((f"{_name(job)}:", f"{job.output}:", "stdout:", str(beside)))
    return words if named else f"{_name(job)}: {words}"


def _summary(job: Job, report: Any) -> str:
    size = f"{report.width} x {report.height}"
    summary = f"{job.source} -> {job.output}: {size}, {report.model}, {report.seconds:.1f} s"
    if not job.is_video:
        return summary
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in report.stages.items())
    resumed = f", {report.resumed_frames} of them from an earlier run" if report.resumed_frames else ""
    return (
        f"{summary}, {report.frames} frames{resumed}, {report.frames_per_second:.1f} fps; "
        f"seconds of work: {stages}; slowest: {report.bottleneck}"
    )
