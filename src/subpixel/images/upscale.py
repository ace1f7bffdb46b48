"""Upscaling an image file."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from subpixel.arguments import check_callables, check_files
from subpixel.content import content_of_image
from subpixel.engines.pixel_art import AnyUpsampling, PixelArtUpsampling
from subpixel.errors import ImageTooLarge, OutputError
from subpixel.files import Source, Target
from subpixel.images.animations.animation import Animation
from subpixel.images.animations.open import open_animation
from subpixel.images.animations.upscale import upscale_animation
from subpixel.images.formats import (
    AVIF,
    DEFAULT_QUALITY,
    FORMATS,
    JXL,
    LOSSLESS_QUALITY,
    MAX_MEMORY_MIB,
    MAX_OUTPUT_PIXELS,
    PNG,
    Format,
    bits_per_sample,
)
from subpixel.images.image import DecodedImage, Header, drop_opaque_alpha
from subpixel.images.palette import find_palette
from subpixel.images.plan import ImageOptions, ImagePlan, checked_options
from subpixel.images.read import read
from subpixel.images.tiles import upscale_strips, worker_count
from subpixel.images.workers import Workers
from subpixel.images.write import stores_cicp, write
from subpixel.options import ContentKind, EngineName, Fit, ImageFormat, Precision, Wrap
from subpixel.results import ImageResult, Progress
from subpixel.selection import ModelOptions
from subpixel.sizes import SizeArgument, TargetSize
from subpixel.storage.local_copies import as_paths
from subpixel.storage.outputs import refuse_existing, refuse_input, write_whole
from subpixel.storage.paths import ObjectPath, locate

if TYPE_CHECKING:
    from subpixel.upscaler import Upscaler


def upscale_image(
    input: Source,
    output: Target,
    *,
    scale: float | None = None,
    size: SizeArgument | None = None,
    width: int | None = None,
    height: int | None = None,
    fit: Fit | None = None,
    model: str | os.PathLike[str] | None = None,
    content: ContentKind | None = None,
    engine: EngineName = "auto",
    precision: Precision = "auto",
    threads: int | None = None,
    sharpness: float = 0.0,
    upscaler: "Upscaler | None" = None,
    wrap: Wrap | None = None,
    format: ImageFormat | None = None,
    quality: int = DEFAULT_QUALITY,
    overwrite: bool = False,
    max_output_pixels: int = MAX_OUTPUT_PIXELS,
    max_memory_mib: int = MAX_MEMORY_MIB,
    progress: Callable[[Progress], object] = lambda progress: None,
) -> ImageResult:
    """Upscale an image file, still or animated.

    The output keeps the color profile, EXIF, XMP, resolution in dpi, transparency, and 8 or 16 bits per
    sample (16 in PNG, TIFF and JPEG XL, up to 12 in AVIF). The orientation is applied. 1-bit images become
    grayscale, palettes and CMYK become RGB. An animated GIF, WebP or PNG (APNG) stays animated in these three
    formats, with its delays and its number of plays; any other format gets the first frame. The output file
    appears under its name only when it is complete.

    >>> import io, subpixel
    >>> result = subpixel.upscale_image("small.png", "large.png", scale=3)
    >>> result.width, result.height
    (144, 120)
    >>> large = io.BytesIO()
    >>> with open("small.png", "rb") as file:
    ...     result = subpixel.upscale_image(file, large, format="jpeg")
    >>> large.getvalue()[6:10]
    b'JFIF'

    Args:
        input: a PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, JPEG XL or HEIC file: a path, an ``s3://``
            URL, its bytes, or a file object opened for reading bytes.
        output: the file to write: a path or an ``s3://`` URL, whose extension selects the format, or a file
            object opened for writing bytes, with ``format``.
        scale: the factor per side, such as 3 or 1.5, up to 16; 2 if neither a size nor a model is named.
        size: the size of the output instead: ``(width, height)``, or a name such as "1080p" or "4k".
        width, height: one side of the output, or both, instead.
        fit: "inside" (the default) keeps the shape and makes no side longer than asked for; see
            `subpixel.options.Fit`.
        model: the name of a packaged model, "nearest" or "epx" for pixel art, or the path of a
            ``.safetensors`` file.
        content: instead of ``model``, the kind of the image: "clean", "compressed", "pixel-art", or "auto"
            (the default), which selects clean or compressed by the compression of the file.
        engine, precision, threads, sharpness: see `subpixel.Upscaler`.
        upscaler: an upscaler from `load`, instead of all of these.
        wrap: "x", "y" or "both": the axes along which the image continues with its opposite side, as a
            texture that is repeated does, or a panorama of 360 degrees. The result then has no seams.
        format: the output format, if the name of the output does not determine it.
        quality: 1 to 100, for JPEG, WebP, AVIF and JPEG XL; all but JPEG are lossless at 100.
        overwrite: whether to replace an existing output.
        max_output_pixels: refuse larger outputs, or larger frames, before anything is decoded.
        max_memory_mib: refuse images that need more memory, in MiB, before anything is decoded.
        progress: called after each tile, or each frame of an animation; the last call has a fraction of 1.

    Raises:
        InputError: the image cannot be read, is not supported, or would become too large.
        OutputError: the output exists, is the input, cannot be written, or cannot store the result.
        ModelError, EngineError: see `load`.
        ValueError, TypeError: a wrong argument.
    """
    started = time.perf_counter()
    check_files(input=input, output=output)
    check_callables(progress=progress)
    target_size = TargetSize(scale=scale, size=size, width=width, height=height, fit=fit)
    options = checked_options(output, format, quality, overwrite, max_output_pixels, max_memory_mib, wrap)
    model_options = ModelOptions(
        upscaler=upscaler,
        model=model,
        scale=scale,
        content=content,
        engine=engine,
        precision=precision,
        threads=threads,
        sharpness=sharpness,
    )

    def on_progress(fraction: float, frames: int = 0, total_frames: int | None = None) -> None:
        seconds = time.perf_counter() - started
        progress(Progress(fraction=fraction, seconds=seconds, frames=frames, total_frames=total_frames))

    is_far = isinstance(input, str | os.PathLike) and isinstance(locate(input), ObjectPath)
    if is_far and not overwrite and isinstance(output, str | os.PathLike):
        refuse_existing(locate(output))  # before the input is copied
    with as_paths(input, output) as paths:
        source, target = Path(paths.input), locate(paths.output)
        refuse_input(target, locate(paths.input_name))
        selection = model_options.select(lambda: content_of_image(source))
        plan = ImagePlan(source, target, selection.upscaler, target_size, options)
        written = _upscale_file(plan, on_progress)
    return ImageResult(
        input=paths.input_name,
        output=paths.output_name,
        **selection.as_result(written.upsampling),
        width=written.upsampling.target[1],
        height=written.upsampling.target[0],
        seconds=round(time.perf_counter() - started, 3),
        warnings=written.warnings,
        frames=written.frames,
    )


class _Written(NamedTuple):
    """An output file that was written."""

    upsampling: AnyUpsampling
    dtype: np.dtype[Any]
    """Of the samples of the input."""
    warnings: tuple[str, ...]
    frames: int = 1


def _upscale_file(plan: ImagePlan, on_progress: Callable[..., None]) -> _Written:
    source, options = plan.source, plan.options

    def approve(header: Header) -> None:
        plan.check(header)

    # The output is opened before the input is read: if it cannot be written, no work is lost.
    with write_whole(plan.target, overwrite=options.overwrite) as partial:
        animation = open_animation(source) if options.format.supports_animation else None
        if animation is not None:
            upsampling = plan.check(animation.header, animated=True)
            with _memory_errors(source):
                return _upscale_animation(animation, partial, upsampling, options, on_progress)
        image = read(source, approve)
        _fit_to_format(source, image, options.format, options.quality)
        samples = image.samples
        upsampling = plan.upsampling_for(samples.shape[0], samples.shape[1])
        height, width = upsampling.target
        dtype = samples.dtype if options.format.supports_16_bit else np.uint8
        with _memory_errors(source), Workers(worker_count(upsampling)) as workers:
            strips = upscale_strips(
                samples,
                upsampling,
                workers,
                alpha=image.has_alpha,
                dtype=dtype,
                progress=on_progress,
            )
            if options.format is PNG and isinstance(upsampling, PixelArtUpsampling):
                # Without a reduction, the result has no other colors than the input.
                strips = strips._replace(palette=None if upsampling.reduces else find_palette(samples))
            metadata = image.metadata.updated(width, height)
            dropped = write(partial, strips, metadata, options.format, workers, quality=options.quality)
    return _Written(upsampling, samples.dtype, (*image.warnings, *upsampling.warnings, *dropped))


@contextmanager
def _memory_errors(source: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise ImageTooLarge(
            f"{source}: the upscaled image does not fit into memory; free some, or cut it into parts"
        ) from error


def _upscale_animation(
    animation: Animation,
    partial: Path,
    upsampling: AnyUpsampling,
    options: ImageOptions,
    on_progress: Callable[..., None],
) -> _Written:
    def on_frame(finished: int) -> None:
        on_progress(finished / animation.frames, finished, animation.frames)

    warnings = upscale_animation(
        animation, partial, upsampling, options.format, quality=options.quality, on_frame=on_frame
    )
    dtype = np.dtype(np.uint16 if animation.header.is_16_bit else np.uint8)
    return _Written(upsampling, dtype, (*upsampling.warnings, *warnings), animation.frames)


def _fit_to_format(source: Path, image: DecodedImage, output_format: Format, quality: int) -> None:
    """Drop alpha that the format does not support if it is opaque, otherwise refuse; warn about lost bits."""
    if image.has_alpha and not output_format.supports_alpha:
        image.samples = drop_opaque_alpha(image.samples)
        if image.has_alpha:
            others = " or ".join(other.name for other in FORMATS if other.supports_alpha)
            raise OutputError(
                f"{source}: has transparency, which {output_format.name} does not support; write {others}"
            )
    if output_format is JXL and not stores_cicp(JXL, image.metadata.cicp, quality):
        from subpixel.images.srgb import convert_to_srgb

        image.warnings += convert_to_srgb(image)
    bits, kept = image.bits or 8 * image.samples.itemsize, bits_per_sample(output_format, quality)
    if bits > kept:
        more = " (12 with quality 100)" if output_format is AVIF and quality < LOSSLESS_QUALITY else ""
        image.warnings.append(
            f"reduced from {bits} to {kept} bits per sample, the limit of {output_format.name}{more}"
        )
