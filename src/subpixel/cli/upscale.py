"""`subpixel upscale`: make pictures and videos larger."""

import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from subpixel.cli.display import display
from subpixel.cli.errors import exiting, stoppable
from subpixel.cli.upscale_run import UpscaleRun, compiling_told
from subpixel.cli.usage import (
    PICTURES,
    VIDEOS,
    folder_to_be,
    refuse_terminal,
    refuse_unused,
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
            help="Selects the model by the input, instead of -m: clean, compressed, or auto, the default. "
            "auto means compressed for images whose file says that JPEG or WebP took much from them, and for "
            "videos that are not .y4m."
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
    from subpixel.content import content_of_film, content_of_picture
    from subpixel.selection import select

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
        # What is wrong with the options is told before any work; the first file needs what is loaded here.
        first = todo.jobs[0]
        content_of = content_of_film if first.is_video else content_of_picture
        select(None, **options, guess=lambda: content_of(first.source))
    run = UpscaleRun(
        options=options,
        image_options={
            "quality": quality,
            "max_output_pixels": max_output_pixels,
            "max_memory_mib": max_memory,
        },
        video_options=video_options,
        overwrite=overwrite,
        as_json=as_json,
        verbose=verbose,
        progress=progress,
        max_damage=max_damage,
    )
    with (
        display(len(todo.jobs), bar=progress == "auto") as people,
        compiling_told(people, to_all=verbose),
    ):
        if verbose and todo.skipped:
            people.say(f"{todo.skipped} files left aside: neither pictures nor videos by their names")
        failed = run.work(todo.jobs, people)
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
