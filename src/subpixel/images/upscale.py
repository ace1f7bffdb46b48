"""One picture file, enlarged into another."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from subpixel.arguments import check_choice, check_files, check_wholes
from subpixel.content import content_of_picture
from subpixel.engines.base import Engine
from subpixel.errors import ImageTooLarge, OutputError
from subpixel.files import Source, Target, as_paths, refuse_input, write_atomically
from subpixel.images.formats import (
    DEFAULT_QUALITY,
    EXTENSIONS,
    FORMATS,
    MAX_MEMORY_MIB,
    MAX_OUTPUT_PIXELS,
    Format,
    format_named,
    format_of,
)
from subpixel.images.memory import refuse_too_much
from subpixel.images.picture import Header, Picture, without_opaque_alpha
from subpixel.images.read import read
from subpixel.images.tiles import enlarged_strips, workers_for
from subpixel.images.workers import Workers
from subpixel.images.write import write
from subpixel.options import ContentKind, EngineName, ImageFormat, Precision
from subpixel.results import ImageResult, Progress

if TYPE_CHECKING:
    from subpixel.upscaler import Upscaler


def upscale_image(
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
    format: ImageFormat | None = None,
    quality: int = DEFAULT_QUALITY,
    overwrite: bool = False,
    max_output_pixels: int = MAX_OUTPUT_PIXELS,
    max_memory_mib: int = MAX_MEMORY_MIB,
    progress: Callable[[Progress], object] = lambda progress: None,
) -> ImageResult:
    """Make an image file larger.

    The image keeps its color profile, EXIF, XMP and resolution in dpi, its 8 or 16 bits per sample (16 in
    PNG and TIFF only), and its transparency. Its EXIF orientation is applied. 1-bit images become gray,
    palettes and CMYK become RGB. The output appears under its name only when it is complete.

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
        input: a PNG, JPEG, WebP, TIFF or BMP file: a path, its bytes, or a file object opened for reading
            bytes.
        output: the file to write: a path, whose extension selects the format, or a file object opened for
            writing bytes, with ``format``.
        scale: how many times larger each side becomes; 2 when no model is named either.
        model: the name of a packaged model or the path of a ``.safetensors`` file.
        content: instead of a model what happened to the image before: "clean", "compressed", or "auto", the
            default, by which the compression of the file decides.
        engine, precision, threads: see `subpixel.Upscaler`.
        upscaler: one from `load`, instead of all of these.
        format: of the output, where its name does not say.
        quality: 1 to 100, of JPEG and WebP; WebP is lossless at 100.
        overwrite: whether an existing output is replaced.
        max_output_pixels: the largest result that is accepted; known before anything is decoded.
        max_memory_mib: the most memory that the work may need, in MiB, likewise.
        progress: called now and then, at last with a fraction of 1.

    Raises:
        InputError: the image cannot be read, is of a kind that is refused, or would become too large.
        OutputError: the output exists, is the input, or cannot hold or be given the result.
        ModelError, EngineError: see `load`.
        ValueError, TypeError: a wrong argument.
    """
    from subpixel.selection import select

    started = time.perf_counter()
    check_files(input=input, output=output)
    check_wholes(quality=quality, max_output_pixels=max_output_pixels, max_memory_mib=max_memory_mib)
    check_choice(ImageFormat, format=format)
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be 1 to 100, not {quality}")
    kind = _format(output, format)
    with as_paths(input, output) as paths:
        source, target = Path(paths.input), Path(paths.output)
        refuse_input(target, source)
        choice = select(
            upscaler,
            model=model,
            scale=scale,
            content=content,
            engine=engine,
            precision=precision,
            threads=threads,
            guess=lambda: content_of_picture(source),
        )
        limits = _Limits(max_output_pixels, max_memory_mib)

        def tell(fraction: float) -> None:
            progress(Progress(fraction=fraction, seconds=time.perf_counter() - started))

        with write_atomically(target, overwrite=overwrite) as part:  # first, so as not to work for nothing
            done = _upscale(source, target, part, kind, choice.upscaler, quality, limits, tell)
    return ImageResult(
        input=paths.input_name,
        output=paths.output_name,
        **choice.as_result(done.engine),
        width=done.width,
        height=done.height,
        seconds=round(time.perf_counter() - started, 3),
        warnings=done.warnings,
    )


class _Limits(NamedTuple):
    output_pixels: int
    memory_mib: int


class _Done(NamedTuple):
    """What is told of an image that was written."""

    engine: Engine
    width: int
    height: int
    warnings: tuple[str, ...]


def _upscale(
    input: Path,
    output: Path,
    part: Path,
    kind: Format,
    upscaler: "Upscaler",
    quality: int,
    limits: _Limits,
    tell: Callable[[float], None],
) -> _Done:
    """Read the input and write the result to ``part``; ``output`` is its name in messages."""

    def approve(header: Header) -> None:
        width, height = header.width * upscaler.scale, header.height * upscaler.scale
        _approve(input, output, kind, width, height, limits.output_pixels)
        refuse_too_much(input, header, upscaler.engine, kind, limits.memory_mib)

    picture = read(input, approve)
    _fit(input, picture, kind)
    engine = upscaler.compiled.engine_for(picture.samples.dtype)
    depth = picture.samples.dtype if kind.deep else np.uint8
    try:
        with Workers(workers_for(engine)) as workers:
            large = enlarged_strips(
                picture.samples, engine, workers, alpha=picture.alpha, dtype=depth, progress=tell
            )
            height, width = large.shape[:2]
            metadata = picture.metadata.updated(width, height)
            left_out = write(part, large, metadata, kind, workers, quality=quality)
    except MemoryError as error:
        raise ImageTooLarge(
            f"{input}: the enlarged picture does not fit into memory; free some, or cut the picture up"
        ) from error
    return _Done(engine, width, height, (*picture.notices, *left_out))


def _format(output: Target, name: ImageFormat | None) -> Format:
    """The format to write: that of the output's extension, or of the name; both must agree."""
    if not isinstance(output, str | os.PathLike):
        if name is None:
            raise ValueError("the output is a file object: say which format, such as format='png'")
        return format_named(name)
    path = Path(output)
    if name is None:
        return format_of(path)
    kind = format_named(name)
    if path.suffix.lower() in EXTENSIONS and format_of(path) is not kind:
        raise ValueError(f"{path}: is {format_of(path).name} by its name, not {kind.name}; name one alone")
    return kind


def _approve(input: Path, output: Path, kind: Format, width: int, height: int, limit: int) -> None:
    """Refuse what the limit or the format does not allow, by the output's size."""
    if width * height > limit:
        raise ImageTooLarge(
            f"{input}: would become {width} x {height} pixels, more than the limit of {limit}; "
            "if that is meant, raise --max-output-pixels (max_output_pixels)"
        )
    if max(width, height) > kind.max_side_px:
        others = " or ".join(other.name for other in FORMATS if max(width, height) <= other.max_side_px)
        most = f"{kind.name} holds at most {kind.max_side_px} pixels a side"
        raise OutputError(f"{output}: {most}, not {width} x {height}; write {others}")


def _fit(input: Path, picture: Picture, kind: Format) -> None:
    """Make the picture one that the format can hold, or refuse."""
    if picture.alpha and not kind.alpha:
        picture.samples = without_opaque_alpha(picture.samples)
        if picture.alpha:
            others = " or ".join(other.name for other in FORMATS if other.alpha)
            raise OutputError(f"{input}: has transparency, which {kind.name} does not hold; write {others}")
    if picture.samples.dtype == np.uint16 and not kind.deep:
        picture.notices.append(f"reduced from 16 to 8 bits per sample, as {kind.name} holds no more")
