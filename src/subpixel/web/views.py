"""What a page shows besides the result: thumbnails, the source beside the result, and previews of videos."""

import contextlib
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from subpixel.errors import InputError, SubpixelError, UnreadableVideo
from subpixel.files import write_atomically
from subpixel.images.image import DecodedImage, Header
from subpixel.images.read import read

_THUMBNAIL_PX = 256
_PREVIEW_SECONDS = 2
_MIN_PREVIEW_SECONDS = 0.25
_PREVIEW_PIXELS = 300e6
"""Of all frames of an upscaled preview together, so that it is ready soon."""

_SOURCE_OPTIONS = ("deinterlace", "field_order", "inverse_telecine")

DEMUXERS = (
    "matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,flv,live_flv,asf,"
    "ogg,yuv4mpegpipe,gif,apng,webp_anim,vc1,rm,dv,mxf,mxf_opatom,nut,wtv,swf,3dostr,bink,smk,nsv,roq,vivo,y4m"
)
"""The formats of FFmpeg that uploads may have: files with everything inside. Playlists (HLS, DASH, concat,
IMF, SDP) are missing, because they name other files, which an upload must not read."""


class _HeaderOnly(SubpixelError):  # noqa: N818
    """Stops `read` after the header."""


def read_header(path: Path) -> Header:
    """Return size and depth of an image without decoding it; raise `InputError` as `read` does."""
    found: list[Header] = []

    def stop(header: Header) -> None:
        found.append(header)
        raise _HeaderOnly

    with contextlib.suppress(_HeaderOnly):
        read(path, stop)
    return found[0]


def check_video(path: Path) -> None:
    """Raise `UnreadableVideo` unless FFmpeg takes a file for a video that names no other files."""
    import av

    try:
        with av.open(f"file:{path}", "r", options={"format_whitelist": DEMUXERS}):
            pass
    except (av.FFmpegError, ValueError, OSError) as error:
        raise UnreadableVideo(
            f"{path}: is neither an image nor a video that can be read "
            f"({getattr(error, 'strerror', None) or error}); open it in another program: if it is complete, "
            "save it as PNG or MP4"
        ) from error


def write_thumbnail(samples: NDArray[Any], target: Path, icc: bytes | None = None) -> None:
    """Write an image or a frame, ``(H, W)`` or ``(H, W, 2 to 4)``, at most 256 pixels wide and high."""
    image = _pillow(samples)
    image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.BICUBIC, reducing_gap=2.0)
    profile = icc if icc and icc[16:20] == b"RGB " else None
    with write_atomically(target, overwrite=True) as partial:
        image.save(partial, "webp", quality=80, icc_profile=profile)


def write_view(source: Path, target: Path, size: tuple[int, int] | None, *, bicubic: bool) -> None:
    """Write an image upright as PNG.

    Args:
        source: the image.
        target: the file to write.
        size: width and height of the result; None for that of the image.
        bicubic: whether the size is reached by bicubic interpolation.
    """
    image = read(source, lambda header: None)
    if bicubic and size is not None:
        samples = np.asarray(_pillow(image.samples).resize(size, Image.Resampling.BICUBIC))
    else:
        samples = image.samples
    _write_png(samples, image, target)


def _write_png(samples: NDArray[Any], image: DecodedImage, target: Path) -> None:
    from subpixel.engines.select import available_cpus
    from subpixel.images.codecs import png
    from subpixel.images.codecs.png import COLOR_CHUNKS
    from subpixel.images.image import Metadata, Strips
    from subpixel.images.workers import Workers

    chunks = tuple((name, body) for name, body in image.metadata.png_chunks if name in COLOR_CHUNKS)
    metadata = Metadata(icc=image.metadata.icc, png_chunks=chunks)
    samples = np.ascontiguousarray(samples)
    strips = Strips(samples.shape, samples.dtype, len(samples), iter([samples]))
    with (
        write_atomically(target, overwrite=True) as partial,
        partial.open("r+b") as file,
        Workers(available_cpus()) as workers,
    ):
        png.write(file, strips, metadata, workers)


def _pillow(samples: NDArray[Any]) -> Image.Image:
    """The samples as 8-bit image of Pillow."""
    if samples.dtype == np.uint16:
        samples = ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(samples))


def describe_video(path: Path, thumbnail: Path) -> dict[str, Any]:
    """Write the thumbnail of a video, and return its description.

    Returns:
        ``width`` and ``height`` upright, ``stored`` (both as they are stored), ``frames``, ``seconds`` and
        ``frame_rate``, None if unknown.
    """
    from subpixel.comparison.frames import read_frame_at

    still = read_frame_at(path, Fraction(0), None)
    write_thumbnail(still.original().samples, thumbnail)
    from subpixel.video.media.source import open_source

    source = open_source(path)
    try:
        frames, rate = source.timeline.expected_frames, float(source.timeline.frame_rate)
        pixel_format = source.first_frame.format.name
    finally:
        source.close()
    width, height = still.whole_size
    return {
        "width": width,
        "height": height,
        "stored": [still.frame.width, still.frame.height],
        "bytes": path.stat().st_size,
        "frames": frames,
        "seconds": None if frames is None or not rate else round(frames / rate, 3),
        "frame_rate": round(rate, 3),
        "pixel_format": pixel_format,
    }


def write_previews(
    path: Path,
    original: Path,
    result: Path,
    description: dict[str, Any],
    target_pixels: int,
    arguments: dict[str, Any],
    progress: Callable[[Any], object],
) -> None:
    """Write the first seconds of a video as they are, and upscaled, as MP4 that browsers play."""
    from subpixel.video.upscale import upscale_video

    rate = description["frame_rate"] or 25.0
    seconds = max(_MIN_PREVIEW_SECONDS, min(_PREVIEW_SECONDS, _PREVIEW_PIXELS / (target_pixels * rate)))
    start = arguments.get("start", 0)
    end = start + seconds
    if arguments.get("end") is not None:
        end = min(end, arguments["end"])
    # All browsers play 8-bit H.264 with 4:2:0 only; deeper video goes to AV1.
    plays = description["pixel_format"] in ("yuv420p", "yuvj420p", "nv12", "gray", "rgb24", "bgr24", "pal8")
    encoding = {"codec": "libx264", "crf": 16} if plays else {"codec": "libsvtav1", "crf": 20}
    common = {"start": start, "end": end, "drop_unsupported": True, "overwrite": True, "progress": progress}
    kept = {key: value for key, value in arguments.items() if key not in ("codec", "crf", "preset")}
    # The source in its own size is the source itself, but for what turns it into frames that players show.
    plain = {key: value for key, value in kept.items() if key in _SOURCE_OPTIONS}
    plain |= {"size": (description["width"], description["height"]), "fit": "exact"}
    upscale_video(path, original, **{**plain, **common, **encoding})
    upscale_video(path, result, **{**kept, **common, **encoding})


def check_frames(path: Path, description: dict[str, Any], target_pixels: int, limits: dict[str, int]) -> None:
    """Raise `InputError` for a video that is longer or larger than the server takes."""
    frames = description["frames"]
    if frames is not None and frames > limits["frames"]:
        raise InputError(
            f"{path}: has {frames} frames, more than the limit of {limits['frames']}; cut it into parts, or "
            "start the server with a higher --max-frames"
        )
    if target_pixels > limits["output_pixels"]:
        raise InputError(
            f"{path}: its frames would have {target_pixels} pixels, more than the limit of "
            f"{limits['output_pixels']}; choose a smaller size"
        )


def has_file(path: Path) -> bool:
    """Whether a file is there and not empty."""
    return os.path.isfile(path) and path.stat().st_size > 0  # noqa: PTH113
