"""What becomes of an image file: format, size and networks, and whether it is refused.

All of it follows from the options and the header of the file, so nothing is decoded.
"""

import os
from pathlib import Path
from typing import NamedTuple

from subpixel.arguments import check_choice, check_integers
from subpixel.content import content_of_image
from subpixel.engines.pixel_art import AnyUpsampling
from subpixel.errors import ImageTooLarge, InputError, OutputError
from subpixel.files import Target
from subpixel.images.animations.open import open_animation
from subpixel.images.animations.upscale import frames_ahead
from subpixel.images.formats import EXTENSIONS, FORMATS, Format, format_named, format_of
from subpixel.images.image import Header
from subpixel.images.memory import check_memory, required_bytes
from subpixel.images.read import read_header
from subpixel.options import ImageFormat, Wrap
from subpixel.results import Preview
from subpixel.selection import ModelOptions
from subpixel.sizes import TargetSize
from subpixel.storage.local_copies import as_paths
from subpixel.storage.outputs import check_writable, refuse_input
from subpixel.storage.paths import Location
from subpixel.upscaler import Upscaler


class ImageOptions(NamedTuple):
    """How the output is written, and what is refused."""

    format: Format
    quality: int
    overwrite: bool
    max_output_pixels: int
    max_memory_mib: int
    wrap: Wrap | None


def checked_options(
    output: Target,
    format: ImageFormat | None,
    quality: int,
    overwrite: bool,
    max_output_pixels: int,
    max_memory_mib: int,
    wrap: Wrap | None,
) -> ImageOptions:
    """Return the options. Raises OutputError, ValueError and TypeError as `subpixel.upscale_image` does."""
    check_integers(quality=quality, max_output_pixels=max_output_pixels, max_memory_mib=max_memory_mib)
    check_choice(ImageFormat, format=format)
    check_choice(Wrap, wrap=wrap)
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be 1 to 100, not {quality}")
    output_format = _output_format(output, format)
    if output_format.missing:
        raise OutputError(f"{output}: {output_format.missing}")
    return ImageOptions(output_format, quality, overwrite, max_output_pixels, max_memory_mib, wrap)


def _output_format(output: Target, name: ImageFormat | None) -> Format:
    """The format to write, by the extension of the output or by its name. Both must agree."""
    if not isinstance(output, str | os.PathLike):
        if name is None:
            raise ValueError("the output is a file object: pass its format, such as format='png'")
        return format_named(name)
    path = Path(output)
    if name is None:
        return format_of(path)
    output_format = format_named(name)
    if path.suffix.lower() in EXTENSIONS and format_of(path) is not output_format:
        raise ValueError(
            f"{path}: has the extension of {format_of(path).name}, but the format is {output_format.name}; "
            "change one of them"
        )
    return output_format


class ImagePlan(NamedTuple):
    """One file, and what it becomes."""

    source: Path
    target: Location
    upscaler: Upscaler
    target_size: TargetSize
    options: ImageOptions

    def upsampling_for(self, height: int, width: int) -> AnyUpsampling:
        """Return what upsamples the planes of an image of this size. Raises `InputError` if nothing can."""
        target, family = self.target_size.or_scale(self.upscaler.scale), self.upscaler.family
        try:
            to_width, to_height = target.for_source(width, height)
            return family.upsampling((height, width), (to_height, to_width), self.options.wrap)
        except ValueError as error:
            raise InputError(f"{self.source}: {width} x {height} pixels: {error}") from error

    def check(self, header: Header, *, animated: bool = False) -> AnyUpsampling:
        """Return what upsamples an image with this header.

        Raises:
            ImageTooLarge, OutputError: the result is larger than a limit, or than its format allows.
        """
        options = self.options
        upsampling = self.upsampling_for(header.height, header.width)
        height, width = upsampling.target
        _check_size(self.source, self.target, width, height, options)
        check_memory(
            self.source,
            header,
            upsampling,
            options.format,
            options.max_memory_mib,
            frames_ahead=frames_ahead(upsampling) if animated else 0,
        )
        return upsampling


def preview_image(
    source: Location, target: Location, model: ModelOptions, target_size: TargetSize, options: ImageOptions
) -> Preview:
    """Return what `subpixel.upscale_image` would make of a file. Nothing is decoded or written.

    Raises what `subpixel.upscale_image` raises, as far as the header and the output's folder show it.
    """
    refuse_input(target, source)
    check_writable(target, overwrite=options.overwrite)
    with as_paths(source, target) as paths:
        file = Path(paths.input)
        selection = model.select(lambda: content_of_image(file))
        plan = ImagePlan(file, target, selection.upscaler, target_size, options)
        animation = open_animation(file) if options.format.supports_animation else None
        header = read_header(file) if animation is None else animation.header
        upsampling = plan.check(header, animated=animation is not None)
    ahead = 0 if animation is None else frames_ahead(upsampling)
    memory = required_bytes(header, upsampling, options.format, frames_ahead=ahead)
    return Preview(
        input=paths.input_name,
        output=paths.output_name,
        seconds=0,
        warnings=tuple(upsampling.warnings),
        **selection.as_result(upsampling),
        source_width=header.width,
        source_height=header.height,
        width=upsampling.target[1],
        height=upsampling.target[0],
        frames=1 if animation is None else animation.frames,
        memory_mib=-(-memory >> 20),
    )


def _check_size(source: Path, target: Location, width: int, height: int, options: ImageOptions) -> None:
    """Refuse an output that is larger than the limit or than its format allows."""
    if width * height > options.max_output_pixels:
        raise ImageTooLarge(
            f"{source}: would become {width} x {height} pixels, more than the limit of "
            f"{options.max_output_pixels}; raise --max-output-pixels (max_output_pixels) to allow it"
        )
    side, limit = max(width, height), options.format.max_side_px
    if side > limit:
        others = " or ".join(other.name for other in FORMATS if side <= other.max_side_px)
        raise OutputError(
            f"{target}: {options.format.name} stores at most {limit} pixels per side, "
            f"not {width} x {height}; write {others}"
        )
