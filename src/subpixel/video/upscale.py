"""Upscale a video file into another one."""

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from subpixel import arguments
from subpixel.errors import InputError, name_file_in_errors
from subpixel.files import (
    Source,
    Target,
)
from subpixel.images.formats import EXTENSIONS as IMAGE_EXTENSIONS
from subpixel.options import (
    ContainerName,
    ContentKind,
    Deinterlace,
    EngineName,
    FieldOrder,
    Fit,
    Precision,
)
from subpixel.results import Preview, Progress, VideoResult
from subpixel.selection import ModelOptions
from subpixel.sizes import SizeArgument, TargetSize
from subpixel.storage.local_copies import as_paths
from subpixel.storage.outputs import check_writable, refuse_input, remove_empty_folders_on_error
from subpixel.storage.paths import Location, locate
from subpixel.storage.select import open_storage
from subpixel.video.job import (
    JobOptions,
    OpenedJob,
    check_paths,
    checked_options,
    job_options,
    open_input,
    open_job,
    processing_errors,
)
from subpixel.video.media.decode_errors import DecodeErrors
from subpixel.video.media.source import is_regular
from subpixel.video.pipeline.outputs import has_written, remove_leftovers, written_outcome
from subpixel.video.pipeline.progress import ProgressTracker
from subpixel.video.pipeline.run import job_folder, run_in_segments, run_streaming
from subpixel.video.pipeline.segments import has_segments
from subpixel.video.shards import check_shard, upscale_shard

if TYPE_CHECKING:
    from subpixel.upscaler import Upscaler


def upscale_video(
    input: Source,
    output: Target,
    *,
    scale: float | None = None,
    size: SizeArgument | None = None,
    width: int | None = None,
    height: int | None = None,
    fit: Fit | None = None,
    square_pixels: bool = False,
    model: str | os.PathLike[str] | None = None,
    content: ContentKind | None = None,
    engine: EngineName = "auto",
    precision: Precision = "auto",
    threads: int | None = None,
    sharpness: float = 0.0,
    grain: float | Literal["keep"] = 0.0,
    upscaler: "Upscaler | None" = None,
    codec: str = "auto",
    crf: float | None = None,
    preset: str | None = None,
    codec_options: Mapping[str, str] | None = None,
    container: ContainerName | None = None,
    start: float | Fraction = 0,
    end: float | Fraction | None = None,
    deinterlace: Deinterlace = "auto",
    field_order: FieldOrder = "auto",
    inverse_telecine: bool = False,
    overwrite: bool = False,
    drop_unsupported: bool = False,
    shard: tuple[int, int] | None = None,
    progress: Callable[[Progress], object] = lambda progress: None,
) -> VideoResult:
    """Upscale a video, and copy its sound, subtitles, chapters, metadata and other streams.

    The output appears under its name only when it is complete. An interrupted job resumes when the function
    is called again with the same arguments; until then, a hidden folder beside the output stores the finished
    segments. Jobs that read or write a pipe or a file object do not resume.

    >>> import subpixel
    >>> result = subpixel.upscale_video("film.mp4", "film-large.mkv", scale=2, crf=16)
    >>> result.width, result.height, result.frames
    (96, 80, 3)

    Args:
        input: a video that FFmpeg reads: a path, an ``s3://`` URL, its bytes, a file object opened for
            reading bytes, or "-" for stdin.
        output: the file to write: a path or an ``s3://`` URL, whose extension selects the container; a file
            object opened for writing bytes, with ``container``; or "-" for stdout.
        scale: the factor per side, such as 3 or 1.5, up to 16; 2 if neither a size nor a model is given.
        size: the size of the output instead: ``(width, height)``, or a name such as "1080p" or "4k". It
            is that of the rotated video if players rotate it, as those of phones. It counts the pixels that
            are stored, which players stretch if the video is anamorphic; see ``square_pixels``.
        width, height: one side of the output, or both, instead.
        fit: "inside" (the default) keeps the shape and makes no side longer than asked for; see
            `subpixel.options.Fit`. Most codecs need even sides; the nearest ones that fit are used.
        square_pixels: whether an anamorphic video becomes one with square pixels, of the shape that players
            show. By default its pixels keep their shape.
        model: the name of a packaged model, "nearest" or "epx" for pixel art, or the path of a
            ``.safetensors`` file.
        content: selects the model instead: "clean", "compressed", "pixel-art", or "auto", the default, which
            treats files named ``.y4m`` as clean and all others as compressed.
        engine, precision, threads, sharpness: see `subpixel.Upscaler`.
        upscaler: one from `load`, instead of all of these.
        grain: how much of the noise that the model removes is given back as new noise of the same strength,
            0 to 1; "keep" means all of it.
        codec: FFmpeg's name of the encoder, such as "libx264"; "auto" selects one for container and depth.
        crf: the quality on the codec's own scale, where smaller is better; 18 by default for libx264.
        preset: the encoder's speed, by the codec's own name; "veryfast" by default for libx264.
        codec_options: any other options of the encoder, such as ``{"tune": "film"}``.
        container: "mp4", "mkv", "mov", "webm" or "y4m", if the output's name does not say; y4m for stdout.
        start, end: the part to upscale, in seconds from the beginning. The times of the result start at 0.
        deinterlace: "auto" (the default) makes one progressive frame of each frame that is marked as
            interlaced, "fields" makes two of each frame, for smooth motion; see
            `subpixel.options.Deinterlace`.
        field_order: which field comes first, "top" or "bottom", if the file says it wrong or not at all.
        inverse_telecine: whether to restore the 24 frames per second of a film in 30 interlaced ones.
        overwrite: whether to replace an existing output.
        drop_unsupported: whether to drop streams that the container cannot hold, instead of raising an error.
        shard: ``(i, n)`` to encode only the i-th of n shares, i from 1, while other processes, also on other
            machines that see the same files, encode the others. The one that finishes the last segment writes
            the output; ``missing_segments`` of the result is 0 then.
        progress: called at most ten times a second, and at the end with a fraction of 1.

    Raises:
        InputError: the input cannot be read, or contains no frame that can be decoded.
        OutputError: the output exists, is the input itself, cannot be written, or cannot hold a stream.
        ModelError, EngineError: see `load`.
        ValueError, TypeError: a wrong argument, such as an unknown codec, container or encoder option, or an
            end before the start.
        BrokenPipeError: the reader of stdout closed it.
    """
    arguments.check_files(input=input, output=output)
    arguments.check_callables(progress=progress)
    options = job_options(
        output,
        {
            "scale": scale,
            "size": size,
            "width": width,
            "height": height,
            "fit": fit,
            "square_pixels": square_pixels,
            "model": model,
            "content": content,
            "engine": engine,
            "precision": precision,
            "threads": threads,
            "sharpness": sharpness,
            "grain": grain,
            "upscaler": upscaler,
            "codec": codec,
            "crf": crf,
            "preset": preset,
            "codec_options": codec_options,
            "container": container,
            "start": start,
            "end": end,
            "deinterlace": deinterlace,
            "field_order": field_order,
            "inverse_telecine": inverse_telecine,
            "overwrite": overwrite,
            "drop_unsupported": drop_unsupported,
            "progress": progress,
        },
    )
    if shard is not None:
        return upscale_shard(input, output, options, check_shard(shard))
    extension = options.container.extensions[0]
    with (
        remove_empty_folders_on_error(output),
        as_paths(input, output, extension, copies_object=_is_image(input)) as paths,
    ):
        result = _upscale(paths.input, paths.output, options)
    return replace(result, input=paths.input_name, output=paths.output_name)


def _is_image(input: Source) -> bool:
    """Whether a path has the extension of an image; those are small, and some are read without FFmpeg."""
    return isinstance(input, str | os.PathLike) and Path(input).suffix.lower() in IMAGE_EXTENSIONS


def _upscale(input: str, output: str, options: JobOptions) -> VideoResult:
    """Check the paths, open the input, and run the job; errors name the file."""
    check_paths(input, output, options.overwrite)
    with open_job(input, output, options) as job:
        with processing_errors():
            if job.is_resumable:
                decode_errors = _resume(job)
            else:
                decode_errors = run_streaming(job.plan, output, options.overwrite, job.tracker)
        job.tracker.report(last=True)
        return job.result(decode_errors)


def _resume(job: OpenedJob) -> DecodeErrors:
    """Run a job in segments, from where an earlier run was interrupted."""
    output, fingerprint = locate(job.output), job.fingerprint()
    outcome = written_outcome(job.storage, fingerprint, output)
    if outcome is not None:
        # An earlier run finished the output, but was interrupted before it removed the folder.
        job.storage.remove()
        job.tracker.resumed_frames = outcome["output_frames"]
        return DecodeErrors(**outcome)
    folder = job.open_folder(fingerprint, alone=True)
    return run_in_segments(job.plan, folder, output, job.options.overwrite, job.tracker)


def preview_video(
    source: Location, target: Location, model: ModelOptions, target_size: TargetSize, **options: Any
) -> Preview:
    """Return what `upscale_video` would make of a file. Nothing is upscaled or written.

    Args:
        source: a file, not a pipe.
        target: the output, likewise.
        model, target_size: the arguments of `upscale_video` for them.
        options: all other arguments of `upscale_video`.

    Raises what `upscale_video` raises, as far as the first frame and the output's folder show it.
    """
    checked = checked_options(target, target_size, model, **options)
    if isinstance(source, Path) and source.exists() and not is_regular(source):
        raise InputError(f"{source}: is a pipe or a device, and can be read only once; it has no preview")
    refuse_input(target, source)
    storage = open_storage(job_folder(target))
    written = has_written(storage, target)
    check_writable(target, overwrite=checked.overwrite or written)
    with (
        name_file_in_errors(str(source), f"{target}:"),
        contextlib.closing(open_input(str(source), checked.time_range)) as opened,
    ):
        job = OpenedJob(opened, str(source), str(target), checked, ProgressTracker(checked.progress))
        plan, first = job.plan, opened.first_frame
        return Preview(
            input=str(source),
            output=str(target),
            seconds=0,
            **job.selection.as_result(plan.upsampling),
            source_width=first.width,
            source_height=first.height,
            width=plan.encoder.width,
            height=plan.encoder.height,
            frames=job.tracker.total_frames,
            codec=plan.encoder.codec.name,
            resumes=has_segments(storage),
            warnings=tuple(plan.warnings),
        )


def has_unfinished_job(output: Location) -> bool:
    """Return whether an interrupted job would replace an output that exists.

    If that job has written the output, and only the job's folder is left, the folder is removed.
    """
    storage = open_storage(job_folder(output))
    if has_written(storage, output):
        storage.remove()
    remove_leftovers(storage)
    return bool(storage.entries())
