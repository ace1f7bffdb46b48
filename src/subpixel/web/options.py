"""The options of a job as JSON, and the arguments of `upscale_image` and `upscale_video` that they become."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, get_args

from subpixel.arguments import check_choice, check_integers, check_numbers, check_shares, check_strings
from subpixel.loading import available_models
from subpixel.models import catalog
from subpixel.options import Deinterlace, FieldOrder, ImageFormat, PixelArtRuleName, Wrap
from subpixel.selection import ModelOptions
from subpixel.sizes import TargetSize
from subpixel.web.errors import RequestError

SIZE_OPTIONS = ("scale", "size", "width", "height", "fit")
MODEL_OPTIONS = ("content", "model", "sharpness")
COMMON_OPTIONS = SIZE_OPTIONS + MODEL_OPTIONS
IMAGE_OPTIONS = ("format", "quality", "wrap")
VIDEO_OPTIONS = (
    "container",
    "codec",
    "crf",
    "preset",
    "start",
    "end",
    "square_pixels",
    "drop_unsupported",
    "deinterlace",
    "field_order",
    "inverse_telecine",
    "grain",
)
WEB_CONTAINERS = ("mp4", "mkv", "mov", "webm")


def parse_options(text: str) -> dict[str, Any]:
    """Return the checked options of a JSON text; raise `RequestError` if they are wrong."""
    if not text:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the options are not JSON ({error})") from None
    return check_options(value)


def check_options(value: Any) -> dict[str, Any]:
    """Return options without those that are null; raise `RequestError` if any is unknown or wrong."""
    options = _object(value, (*COMMON_OPTIONS, "image", "video"), "the options")
    for name, known in (("image", IMAGE_OPTIONS), ("video", VIDEO_OPTIONS)):
        if name in options:
            options[name] = _object(options[name], known, f"the option {name!r}")
    try:
        _check_common(options)
        _check_image(options.get("image", {}))
        _check_video(options.get("video", {}))
    except (ValueError, TypeError) as error:
        raise RequestError(422, str(error)) from None
    return options


def _object(value: Any, known: tuple[str, ...], what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RequestError(422, f"{what} must be a JSON object")
    if unknown := sorted(set(value) - set(known)):
        raise RequestError(422, f"{what} has an unknown name {unknown[0]!r}; known: {', '.join(known)}")
    return {name: each for name, each in value.items() if each is not None}


def _check_common(options: Mapping[str, Any]) -> None:
    if isinstance(size := options.get("size"), list):
        raise ValueError(f"size must be text such as '1920x1080', not {size!r}")
    TargetSize(**{name: options[name] for name in SIZE_OPTIONS if name in options})
    check_strings(content=options.get("content"), model=options.get("model"))
    ModelOptions(
        **{name: options[name] for name in MODEL_OPTIONS if name in options}, scale=options.get("scale")
    )
    # A name only: a path would let clients read files of the server.
    if "model" in options and options["model"] not in model_names():
        raise ValueError(f"unknown model {options['model']!r}; known: {', '.join(model_names())}")


@cache
def model_names() -> tuple[str, ...]:
    """Return the packaged models, with and without their scale."""
    return tuple(sorted({*available_models(), *networks(), *get_args(PixelArtRuleName)}))


@cache
def networks() -> tuple[str, ...]:
    """Return the packaged networks, without their scale."""
    names = {name.rpartition("-x")[0] or name for name in available_models()}
    return tuple(sorted(name for name in names if catalog.scales(name)))


def _check_image(options: Mapping[str, Any]) -> None:
    check_choice(ImageFormat, format=options.get("format"))
    check_choice(Wrap, wrap=options.get("wrap"))
    check_integers(quality=options.get("quality"))
    if not 1 <= options.get("quality", 1) <= 100:
        raise ValueError(f"quality must be 1 to 100, not {options['quality']}")


def _check_video(options: Mapping[str, Any]) -> None:
    from fractions import Fraction

    from subpixel.video.media.codecs import Encoding, find_codec, options_for
    from subpixel.video.media.time_range import TimeRange

    check_strings(
        codec=options.get("codec"), preset=options.get("preset"), container=options.get("container")
    )
    check_numbers(crf=options.get("crf"), start=options.get("start"), end=options.get("end"))
    check_choice(Deinterlace, deinterlace=options.get("deinterlace"))
    check_choice(FieldOrder, field_order=options.get("field_order"))
    if options.get("grain") != "keep":
        check_shares(grain=options.get("grain"))
    for name in ("square_pixels", "drop_unsupported", "inverse_telecine"):
        if not isinstance(options.get(name, False), bool):
            raise TypeError(f"{name} must be true or false, not {options[name]!r}")
    if (container := options.get("container", "mp4")) not in WEB_CONTAINERS:
        raise ValueError(f"unknown container {container!r}; known: {', '.join(WEB_CONTAINERS)}")
    end = options.get("end")
    TimeRange(Fraction(str(options.get("start", 0))), None if end is None else Fraction(str(end)))
    codec = options.get("codec", "auto")
    if codec != "auto":
        options_for(find_codec(codec), Encoding(codec, options.get("crf"), options.get("preset")))


def image_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `upscale_image`."""
    return _common(options) | {
        key: value for key, value in options.get("image", {}).items() if key != "format"
    }


def video_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `upscale_video`."""
    given = options.get("video", {})
    return _common(options) | {key: value for key, value in given.items() if key != "container"}


def _common(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in COMMON_OPTIONS if name in options}
