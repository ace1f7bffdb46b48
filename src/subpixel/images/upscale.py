"""One picture file, enlarged into another."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from subpixel.arguments import check_paths, check_wholes
from subpixel.content import content_of_picture
from subpixel.errors import ImageTooLarge, OutputError
from subpixel.files import refuse_input, write_atomically
from subpixel.images.formats import (
    DEFAULT_QUALITY,
    FORMATS,
    MAX_MEMORY_MIB,
    MAX_OUTPUT_PIXELS,
    Format,
    format_of,
)
from subpixel.images.memory import refuse_too_much
from subpixel.images.picture import Header, Picture, without_opaque_alpha
from subpixel.images.read import read
from subpixel.images.tiles import enlarged_strips, workers_for
from subpixel.images.workers import Workers
from subpixel.images.write import write
from subpixel.results import ImageResult

if TYPE_CHECKING:
    from subpixel.upscaler import Upscaler


def upscale_image(
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
    quality: int = DEFAULT_QUALITY,
    overwrite: bool = False,
    max_output_pixels: int = MAX_OUTPUT_PIXELS,
    max_memory_mib: int = MAX_MEMORY_MIB,
    progress: Callable[[float], None] = lambda fraction: None,
) -> ImageResult:
    """Enlarge a picture file into another, which appears under its name only when it is whole.

    The picture keeps its color profile, EXIF, XMP and resolution in dpi, its 8 or 16 bits per sample (16 in
    PNG and TIFF only), and its transparency. Its EXIF orientation is baked in. 1-bit pictures become gray,
    palettes and CMYK become RGB.

    Args:
        input: a PNG, JPEG, WebP, TIFF or BMP file.
        output: the file to write; its extension decides the format.
        scale: how many times larger each side becomes; x2 when no model is named either.
        model: the name of a packaged model or the path of a ``.safetensors`` file.
        content: instead of a model what became of the picture before: "clean", "compressed", or "auto", the
            default, by which the file's own compression decides, see `subpixel.content`.
        engine, precision, threads: see `subpixel.Upscaler`.
        upscaler: one from `load`, instead of all of these.
        quality: 1 to 100, of JPEG and WebP; WebP is without loss at 100.
        overwrite: whether an existing output is replaced.
        max_output_pixels: the largest enlarged picture that is accepted; known before anything is decoded.
        max_memory_mib: the most memory that a picture may need, in MiB, likewise.
        progress: called with the fraction of the enlarging done.

    Raises:
        InputError: the picture cannot be read, is of a kind that is refused, or would become too large.
        OutputError: the output exists, is the input, or cannot hold or be given the result.
        ModelError, EngineError: see `load`.
    """
    from subpixel.selection import select

    started = time.perf_counter()
    check_paths(input=input, output=output)
    check_wholes(quality=quality, max_output_pixels=max_output_pixels, max_memory_mib=max_memory_mib)
    input, output = Path(input), Path(output)
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be 1 to 100, not {quality}")
    kind = format_of(output)
    refuse_input(output, input)
    choice = select(
        upscaler,
        model=model,
        scale=scale,
        content=content,
        engine=engine,
        precision=precision,
        threads=threads,
        guess=lambda: content_of_picture(input),
    )
    upscaler = choice.upscaler

    def approve(header: Header) -> None:
        width, height = header.width * upscaler.scale, header.height * upscaler.scale
        _approve(input, output, kind, width, height, max_output_pixels)
        refuse_too_much(input, header, upscaler.engine, kind, max_memory_mib)

    with write_atomically(output, overwrite=overwrite) as part:  # first, so as not to work for nothing
        picture = read(input, approve)
        _fit(input, picture, kind)
        compiled = upscaler.compiled.engine_for(picture.samples.dtype)
        depth = picture.samples.dtype if kind.deep else np.uint8
        try:
            with Workers(workers_for(compiled)) as workers:
                large = enlarged_strips(
                    picture.samples, compiled, workers, alpha=picture.alpha, dtype=depth, progress=progress
                )
                height, width = large.shape[:2]
                metadata = picture.metadata.updated(width, height)
                notices = (*picture.notices, *write(part, large, metadata, kind, workers, quality=quality))
        except MemoryError as error:
            raise ImageTooLarge(
                f"{input}: the enlarged picture does not fit into memory; free some, or cut the picture up"
            ) from error
    return ImageResult(
        input=str(input),
        output=str(output),
        **choice.as_result(compiled),
        width=width,
        height=height,
        seconds=round(time.perf_counter() - started, 3),
        notices=notices,
    )


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
