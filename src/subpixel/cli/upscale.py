"""`subpixel upscale`: upscale images and videos."""

import re
from fractions import Fraction
from typing import Any

import typer

from subpixel.cli import upscale_options as option
from subpixel.cli.display import Display, open_display
from subpixel.cli.errors import exit_on_error, handle_signals
from subpixel.cli.options import EngineOption, PrecisionOption, ThreadsOption
from subpixel.cli.upscale_connection import check_cluster, connection
from subpixel.cli.upscale_preview import DryRun
from subpixel.cli.upscale_rates import Compilations, Rates
from subpixel.cli.upscale_run import UpscaleRun, log_compilation
from subpixel.cli.upscale_shard import Shard, ShardRun, is_shared, refuse_unreadable
from subpixel.cli.upscale_summary import print_plan, print_summary
from subpixel.cli.usage import existing_outputs, folder_made_for_one_file, refuse_terminal, refuse_unused
from subpixel.errors import ClusterError, SubpixelError
from subpixel.files import PIPE
from subpixel.images.formats import DEFAULT_QUALITY, MAX_MEMORY_MIB, MAX_OUTPUT_PIXELS
from subpixel.options import Wrap
from subpixel.storage.paths import is_folder, locate

MAX_DAMAGE = 0.1
"""A video with a larger share of damaged frames counts as failed."""


@handle_signals("interrupted")
def upscale(
    context: typer.Context,
    inputs: option.Inputs,
    output: option.Output = None,
    scale: option.Scale = None,
    size: option.Size = None,
    width: option.Width = None,
    height: option.Height = None,
    fit: option.Fit = None,
    model: option.Model = None,
    content: option.Content = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    sharpness: option.Sharpness = 0.0,
    overwrite: option.Overwrite = False,
    as_json: option.JSON = False,
    verbose: option.Verbose = False,
    progress: option.Progress = "auto",
    recursive: option.Recursive = False,
    suffix: option.Suffix = "",
    skip_existing: option.SkipExisting = False,
    newer: option.Newer = False,
    cluster: option.Cluster = None,
    shard: option.Shard = None,
    dry_run: option.DryRun = False,
    quality: option.Quality = DEFAULT_QUALITY,
    wrap: option.Wrap = None,
    max_output_pixels: option.MaxOutputPixels = MAX_OUTPUT_PIXELS,
    max_memory: option.MaxMemory = MAX_MEMORY_MIB,
    jobs: option.Jobs = None,
    codec: option.Codec = "auto",
    crf: option.CRF = None,
    preset: option.Preset = None,
    codec_option: option.EncoderOptions = None,
    container: option.Container = None,
    start: option.Start = "0",
    end: option.End = None,
    deinterlace: option.Deinterlacing = "auto",
    field_order: option.FieldOrder = "auto",
    inverse_telecine: option.InverseTelecine = False,
    square_pixels: option.SquarePixels = False,
    grain: option.Grain = "0",
    drop_unsupported: option.DropUnsupported = False,
    max_damage: option.MaxDamage = MAX_DAMAGE,
) -> None:
    """Upscale images and videos.

    Images are PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, JPEG XL and (only read) HEIC files. Color profile, EXIF,
    transparency and 16 bits per sample are kept, and the image is rotated upright. GIF, WebP and PNG (APNG)
    may be animated.

    Videos are all files that FFmpeg reads. They become MP4, Matroska, QuickTime, WebM or YUV4MPEG2. Sound,
    subtitles, chapters and metadata are kept. An interrupted video resumes with the same command.

    If a file fails, the error is printed and the other files are still upscaled.

    ```
    subpixel upscale small.png -o large.png
    subpixel upscale sticker.gif -o sticker-large.webp
    subpixel upscale video.mp4 -o large.mkv -s 3
    subpixel upscale photos/ -o photos-large/ --recursive
    ```
    """
    from subpixel.arguments import check_choice
    from subpixel.batch import content_of, plan_batch, reasons_to_skip
    from subpixel.engines.select import available_cpus, count_at_once
    from subpixel.selection import ModelOptions
    from subpixel.sizes import TargetSize

    sources = [locate(path) for path in inputs]
    with exit_on_error(2, ValueError, SubpixelError):
        if as_json and output == PIPE:
            raise ValueError("--json and -o - both write to stdout; use one of them")
        if progress not in ("auto", "json", "none"):
            raise ValueError(f"unknown --progress {progress!r}; known: auto, json, none")
        if dry_run and PIPE in (output, *map(str, sources)):
            raise ValueError("--dry-run is for files, and - is a pipe; leave it out")
        if cluster is not None:
            check_cluster(cluster, context, sources, output)
        own = None if shard is None else Shard.parse(shard, sources, output, cluster)
        refuse_terminal(sources, output)
        made_folder = folder_made_for_one_file(sources, output)
        existing = existing_outputs(output, overwrite=overwrite, skip=skip_existing, newer=newer)
        plan = plan_batch(sources, output, recursive=recursive, suffix=suffix)
        refuse_unused(context, plan.jobs)
        shard_run = None
        if own is not None:
            shard_run = ShardRun(own, len(plan.jobs), is_shared(plan.jobs))
        video_options: dict[str, Any] = {}
        if any(job.is_video for job in plan.jobs):
            video_options = _video_options(codec, crf, preset, codec_option or [], container, start, end)
            video_options.update(_deinterlacing_options(deinterlace, field_order, inverse_telecine))
            video_options["drop_unsupported"] = drop_unsupported
            video_options["square_pixels"] = square_pixels
            video_options["grain"] = _grain(grain)
        if own is not None:
            refuse_unreadable(plan)
            plan.jobs = own.share_of(plan.jobs)
        skipped = reasons_to_skip(plan.jobs, existing)
        to_do = [job for job, reason in zip(plan.jobs, skipped, strict=True) if not reason]
        target: dict[str, Any] = {"scale": scale, "size": size, "width": width, "height": height, "fit": fit}
        target_size = TargetSize(**target)
        check_choice(Wrap, wrap=wrap)
        options: dict[str, Any] = {
            "scale": scale,
            "model": model,
            "content": content,
            "engine": engine,
            "precision": precision,
            "threads": threads,
            "sharpness": sharpness,
        }
        model_options = ModelOptions(**options)
        if to_do:
            # Report wrong options before any work. The first job finds this model in the cache.
            first = to_do[0]
            model_options.select(lambda: content_of(first))
    image_options = {
        "quality": quality,
        "wrap": wrap,
        "max_output_pixels": max_output_pixels,
        "max_memory_mib": max_memory,
    }
    if dry_run:
        preview = DryRun(
            model=model_options,
            target=target_size,
            image_options=image_options,
            video_options=video_options,
            existing=existing,
            as_json=as_json,
            shard=shard_run,
        )
        print_plan(plan, sources, Display(), verbose=verbose)
        if preview.run(plan.jobs) or plan.unreadable:
            raise typer.Exit(1)
        return
    compilations = Compilations()
    rates = Rates(compilations)
    run = UpscaleRun(
        options={**options, **target},
        image_options=image_options,
        video_options=video_options,
        model_options=model_options,
        target=target_size,
        existing=existing,
        images_at_once=jobs or count_at_once(threads or available_cpus()),
        rates=rates,
        as_json=as_json,
        verbose=verbose,
        progress=progress,
        max_damage=max_damage,
        on_cluster=cluster is not None,
        shard=shard_run,
    )
    with (
        connection(cluster if to_do else None),
        open_display(len(to_do), bar=progress == "auto") as display,
        log_compilation(display, compilations, always=verbose),
        exit_on_error(1, ClusterError),
    ):
        print_plan(plan, sources, display, verbose=verbose)
        if shard_run is not None and shard_run.note:
            display.print(f"note: {shard_run.note}")
        summary = run.run(plan.jobs, display)
        rates.save()
        print_summary(summary, display, verbose=verbose, progress=progress)
        if made_folder is not None and plan.jobs and is_folder(made_folder):
            display.print(
                f"note: {made_folder}: was created as a folder, as its name has no extension such as .png; "
                f"the result is {plan.jobs[0].output}"
            )
    if summary.failed or plan.unreadable:
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
    """Return arguments of `upscale_video`; raise ValueError if they are wrong whatever the input is."""
    from subpixel.video.media.codecs import Encoding, find_codec, options_for
    from subpixel.video.media.containers import container_named
    from subpixel.video.media.time_range import TimeRange

    options = {}
    for given in codec_options:
        name, equals, value = given.partition("=")
        if not equals:
            raise ValueError(f"--codec-option {given!r}: write NAME=VALUE")
        options[name] = value
    if codec != "auto":
        options_for(find_codec(codec), Encoding(codec, crf, preset, options))
    if container is not None:
        container_named(container)
    time_range = TimeRange(_seconds(start), None if end is None else _seconds(end))
    encoding = {"codec": codec, "crf": crf, "preset": preset, "codec_options": options}
    return {**encoding, "container": container, "start": time_range.start, "end": time_range.end}


def _deinterlacing_options(deinterlace: str, field_order: str, inverse_telecine: bool) -> dict[str, Any]:
    """Return arguments of `upscale_video`; raise ValueError if they are wrong."""
    from subpixel.video.pipeline.deinterlace import Deinterlacing

    order: dict[str, Any] = {"field_order": field_order, "inverse_telecine": inverse_telecine}
    Deinterlacing(mode=deinterlace, **order)  # type: ignore[arg-type]
    return {"deinterlace": deinterlace, **order}


def _grain(value: str) -> float:
    """Parse "keep" or a share."""
    try:
        share = 1.0 if value == "keep" else float(value)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"unknown --grain {value!r}; write keep, or a number from 0 to 1")
    return share


_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)")


def _seconds(time: str) -> Fraction:
    """Parse a time such as 90, 1:30 or 0:01:30.5."""
    if (found := _TIME.fullmatch(time.strip())) is None:
        raise ValueError(f"{time!r} is not a time; write seconds or H:MM:SS")
    hours, minutes, seconds = found.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + Fraction(seconds)
