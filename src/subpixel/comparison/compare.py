"""One image or video, and what models make of it, as a page for the browser."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from subpixel.arguments import check_callables, check_choice, check_integers, check_paths
from subpixel.comparison.collect import PageContent
from subpixel.comparison.methods import EngineOptions, find_methods
from subpixel.comparison.page import PageWriter
from subpixel.comparison.stills import Crop
from subpixel.content import content_of_image, content_of_video
from subpixel.engines.select import available_cpus, check_engine
from subpixel.errors import OutputError, name_file_in_errors
from subpixel.files import PIPE, refuse_input, write_atomically
from subpixel.options import EngineName, Precision
from subpixel.results import Progress
from subpixel.video.media.containers import INPUT_EXTENSIONS as VIDEO_EXTENSIONS

PAGE_EXTENSIONS = (".html", ".htm")

DEFAULT_FRAMES = 5

MAX_PAGE_PIXELS = 150_000_000
"""The default limit on the pixels of all upscaled images on a page, which becomes about 300 MB as a file."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a page shows, as `compare` returns it.

    >>> import subpixel
    >>> page = subpixel.compare("small.png", "page.html", scale=3, overwrite=True)
    >>> page.methods, page.width, page.height
    (('bicubic', 'default-x3'), 144, 120)
    """

    input: str
    output: str
    scale: int
    methods: tuple[str, ...]
    """What the page compares: bicubic, then the models."""
    width: int
    """Of the upscaled images in pixels, as `height`."""
    height: int
    frames: int
    """1 for an image."""
    size_bytes: int
    """Size of the page."""
    psnr_db: dict[str, float]
    """By method, the mean over the frames; empty without a reference."""
    seconds: float
    warnings: tuple[str, ...]
    """What had to be changed or left out."""


def compare(
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    models: Sequence[str | os.PathLike[str]] = (),
    scale: int | None = None,
    reference: str | os.PathLike[str] | None = None,
    frames: int | None = None,
    crop: tuple[int, int, int, int] | None = None,
    engine: EngineName = "auto",
    precision: Precision = "auto",
    threads: int | None = None,
    overwrite: bool = False,
    max_page_pixels: int = MAX_PAGE_PIXELS,
    progress: Callable[[Progress], object] = lambda progress: None,
) -> Comparison:
    """Write a page that shows an image or a video beside what bicubic and models make of it.

    The page is one HTML file. It contains everything and requests nothing from any host. The images in it
    are lossless: they have the samples that `upscale_image` writes, or that `upscale_video` gives to its
    encoder. Of a video, networks for video see the frames before.

    >>> import subpixel
    >>> page = subpixel.compare("film.mp4", "page.html", models=["default", "fast"], frames=2, overwrite=True)
    >>> page.methods, page.frames
    (('bicubic', 'default-x2', 'fast-x2'), 2)

    Args:
        input: an image file, or a video file by its extension.
        output: the page to write; it ends in ``.html``.
        models: names of packaged models or paths of model files. By default ``default`` and the model that
            ``content="auto"`` selects for the input.
        scale: by default that of the first model whose name or file has one, or else 2.
        reference: the image, or video, of which the input was made: ``scale`` times as large. The page then
            shows it too, with PSNR and SSIM.
        frames: how many frames of a video, evenly spread; 5 by default.
        crop: shows only a part of the input: x, y, width and height in its pixels. The whole is upscaled.
        engine, precision, threads: see `subpixel.Upscaler`.
        overwrite: whether an existing output is replaced.
        max_page_pixels: limit on the pixels of all upscaled images on the page, known before the work.
        progress: called after each image, at last with a fraction of 1.

    Raises:
        InputError: the input or the reference cannot be read, is too large, or their sizes do not fit.
        OutputError: the output exists, is the input, is not named as HTML, or cannot be written.
        ModelError, EngineError: a model is unknown, of another scale, or cannot run.
        ValueError, TypeError: a wrong argument, such as a model that is given twice.
    """
    started = time.perf_counter()
    check_paths(input=input, output=output)
    check_integers(scale=scale, frames=frames, threads=threads, max_page_pixels=max_page_pixels)
    check_engine(engine)
    check_choice(Precision, precision=precision)
    check_callables(progress=progress)
    if isinstance(models, str | os.PathLike):
        raise TypeError(f"models must be a list of names or paths, not {models!r}; write models=[{models!r}]")
    source, target = Path(input), Path(output)
    other = None
    if reference is not None:
        check_paths(reference=reference)
        other = Path(reference)
    part = _checked_crop(crop)
    _check_files(source, target, other)
    is_video = source.suffix.lower() in VIDEO_EXTENSIONS
    if frames is not None and not is_video:
        raise ValueError(f"frames are of a video, and {source} is an image by its name")
    if frames is not None and frames < 1:
        raise ValueError(f"frames must be at least 1, not {frames}")
    classify = content_of_video if is_video else content_of_image
    options = EngineOptions(engine, precision, threads)
    methods = find_methods(models, scale, options, lambda: classify(source), is_video=is_video)
    content = PageContent(source, other, methods, part, max_page_pixels)

    def report(fraction: float) -> None:
        progress(Progress(fraction=fraction, seconds=time.perf_counter() - started))

    others = (f"{target}:", f"{other}:") if other else (f"{target}:",)
    with (
        write_atomically(target, overwrite=overwrite) as page,
        page.open("w", encoding="utf-8", newline="\n") as file,
        name_file_in_errors(str(source), *others),
    ):
        writer = PageWriter(file, f"{source.name} x{content.scale}", threads or available_cpus())
        if is_video:
            content.add_video(writer, frames or DEFAULT_FRAMES, report)
        else:
            content.add_image(writer, report)
        writer.finish(content.describe())
        file.flush()
        size = page.stat().st_size
    report(1.0)
    return Comparison(
        input=os.fspath(input),
        output=os.fspath(output),
        scale=content.scale,
        methods=tuple(method.name for method in methods),
        width=content.size[0] * content.scale,
        height=content.size[1] * content.scale,
        frames=content.count,
        size_bytes=size,
        psnr_db=content.mean_psnr_db(),
        seconds=round(time.perf_counter() - started, 3),
        warnings=content.warnings,
    )


def _check_files(source: Path, target: Path, reference: Path | None) -> None:
    """Raise for files that cannot work, before anything is loaded."""
    if PIPE in (str(source), str(target), str(reference)):
        raise ValueError('"-" is a pipe, and compare reads and writes files; name one')
    if target.suffix.lower() not in PAGE_EXTENSIONS:
        raise OutputError(f"{target}: the output is a page for the browser; end its name in .html")
    refuse_input(target, source)
    if reference is not None:
        refuse_input(target, reference)
        kinds = [file.suffix.lower() in VIDEO_EXTENSIONS for file in (source, reference)]
        if kinds[0] != kinds[1]:
            what = ("a video", "an image") if kinds[0] else ("an image", "a video")
            raise ValueError(f"{source} is {what[0]} by its name, but the reference {reference} is {what[1]}")


def _checked_crop(crop: tuple[int, int, int, int] | None) -> Crop | None:
    if crop is None:
        return None
    if len(crop) != 4:
        raise ValueError(f"the crop must be x, y, width and height in pixels, not {crop!r}")
    part = Crop(*crop)
    check_integers(x=part.x, y=part.y, width=part.width, height=part.height)
    if part.x < 0 or part.y < 0 or part.width < 1 or part.height < 1:
        raise ValueError(f"the crop must be x, y, width and height in pixels, not {tuple(crop)}")
    return part
