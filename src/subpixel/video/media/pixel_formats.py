"""Pixel formats of frames: bit depth, range, color tags, chroma location, and samples as arrays."""

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from subpixel.ops.color import Matrix

if TYPE_CHECKING:
    from av import VideoFormat, VideoFrame
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream

_SUBSAMPLINGS = {(1, 1): "420", (1, 0): "422", (0, 0): "444", (0, 1): "440", (2, 0): "411", (2, 2): "410"}
"""Names of chroma subsamplings, by the powers of two that divide width and height."""


def bit_depth(format: "VideoFormat") -> int:
    """Return the bits per sample of luma, or of red."""
    return format.components[0].bits


def planar_format(format: "VideoFormat") -> str:
    """Return FFmpeg's name of the planar Y'CbCr or gray format that stores a pixel format without loss.

    Depth and subsampling stay (above 8 bits: 9, 10, 12, 14 or 16; floats become 16). RGB becomes 4:4:4. Alpha
    is dropped.
    """
    depth = min(bit_depth(format), 16)
    if _is_rgb(format):
        name = "yuv444p"
        depth = depth if depth in (9, 10, 12, 14, 16) else 8
    elif len(format.components) < 3:
        name = "gray"
    else:
        chroma = format.components[1]
        across, down = _halvings(format.width, chroma.width), _halvings(format.height, chroma.height)
        name = f"yuv{_SUBSAMPLINGS[across, down]}p"
    return name if depth <= 8 else f"{name}{depth}le"


def is_full_range(frame: "VideoFrame") -> bool:
    """Return whether luma has the full range, with black at 0.

    RGB counts as limited, the range that `to_planar` gives it. Gray without a range counts as full, as in
    FFmpeg.
    """
    if _is_rgb(frame.format):
        return False
    gray = len(frame.format.components) < 3 and frame.color_range == _UNSPECIFIED
    return frame.color_range == _FULL or frame.format.name.startswith("yuvj") or gray


def same_range(frame: "VideoFrame") -> dict[str, Any]:
    """Return arguments of `reformat` that keep the range; without them FFmpeg compresses the full range."""
    range = _FULL if is_full_range(frame) else _LIMITED
    return {"src_color_range": range, "dst_color_range": range}


def color_tags(frame: "VideoFrame") -> tuple[int, int, int, int]:
    """Return primaries, transfer, matrix and range of a frame after `to_planar`, as in `Encoder.color`."""
    range = _FULL if is_full_range(frame) else int(frame.color_range)
    matrix = int(frame.colorspace)
    if _is_rgb(frame.format):
        matrix, range = _MATRICES["bt709"], _LIMITED
    return int(frame.color_primaries), int(frame.color_trc), matrix, range


def _is_rgb(format: "VideoFormat") -> bool:
    return format.is_rgb or format.has_palette


def chroma_location(frame: "VideoFrame") -> str | None:
    """Return the siting of 4:2:0 chroma, "left", "center", "topleft" or "top"; None for any other chroma.

    PyAV does not expose the siting, but FFmpeg's scaler uses it. So a ramp gets the frame's properties and is
    upscaled, and its shift shows the siting.
    """
    from av.video.reformatter import VideoReformatter

    if planar_format(frame.format) not in _FORMATS_420:
        return None
    side, chroma_side = 64, 32
    # The ramp rises by 1024 per sample. Upscaling by 2 shifts it by -128 where chroma is co-sited with luma,
    # and by -256 where it is centered between two samples.
    ramp = reformat(VideoReformatter(), frame, side, side, "yuv420p16le")
    plane(ramp, 1)[:] = np.arange(chroma_side, dtype=np.uint16) * 1024
    plane(ramp, 2)[:] = np.arange(chroma_side, dtype=np.uint16)[:, None] * 1024
    twice = reformat(VideoReformatter(), ramp, 2 * side, 2 * side)
    middle = chroma_side
    across, down = (int(plane(twice, index)[middle, middle]) - middle // 2 * 1024 for index in (1, 2))
    centered = [shift < -192 for shift in (across, down)]
    return {(False, True): "left", (True, True): "center", (False, False): "topleft", (True, False): "top"}[
        centered[0], centered[1]
    ]


def has_chroma_location(stream: "VideoStream") -> bool:
    """Return whether a stream states its chroma siting. Otherwise FFmpeg assumes the center for VP9 and AV1.

    PyAV does not expose this either. A Matroska header contains the siting only if the stream states it, so
    one is written in memory.
    """
    import av

    header = io.BytesIO()
    try:
        with av.open(header, "w", format="matroska") as output:
            copy = output.add_stream_from_template(stream, opaque=True)
            if stream.codec_context.name == "rawvideo":
                copy.codec_context.codec_tag = "I420"  # Matroska needs a tag; any will do
            output.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return _CHROMA_SITING in header.getvalue()


_CHROMA_SITING = bytes.fromhex("55B781")
"""Matroska's element ChromaSitingHorz, and the length of its content, one byte."""

_FORMATS_420 = frozenset(["yuv420p", *(f"yuv420p{depth}le" for depth in (9, 10, 12, 14, 16))])


def _halvings(luma: int, chroma: int) -> int:
    return next(power for power in range(4) if -(-luma // 2**power) == chroma)


def plane(frame: "VideoFrame", index: int) -> NDArray[Any]:
    """Return a view of a plane's samples in the frame, ``(H, W)``, uint8 or uint16."""
    buffer = frame.planes[index]
    dtype = np.dtype(np.uint8 if bit_depth(frame.format) <= 8 else np.uint16)
    rows: NDArray[Any] = np.frombuffer(memoryview(buffer), np.uint8).reshape(-1, buffer.line_size)[
        : buffer.height
    ]
    return rows.view(dtype)[:, : buffer.width]


def reformat(
    converter: "VideoReformatter",
    frame: "VideoFrame",
    width: int | None = None,
    height: int | None = None,
    format: str | None = None,
    *,
    bicubic: bool = False,
    **colors: Any,
) -> "VideoFrame":
    """Convert a frame to another size or pixel format, with the same samples on every machine.

    FFmpeg's scaler rounds differently in the code for different processors, unless it is told not to. With
    several threads, it also writes beyond the end of rows: the first samples of some rows are then garbage.

    Args:
        converter: one for all frames, since it keeps what it has prepared.
        frame: the frame, which is returned itself if there is nothing to do.
        width, height, format: of the result; by default those of the frame.
        bicubic: whether to interpolate bicubically, which is better than bilinearly if the size changes.
        colors: ranges and color spaces, as in PyAV.

    Raises:
        av.FFmpegError: FFmpeg cannot convert the frame.
    """
    from av.video.reformatter import Interpolation

    kernel = Interpolation.BICUBIC if bicubic else Interpolation.BILINEAR
    exact = kernel | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
    return converter.reformat(frame, width, height, format, interpolation=exact, threads=1, **colors)


def to_planar(
    frame: "VideoFrame", converter: "VideoReformatter", *, matrix: Matrix = "bt709"
) -> "VideoFrame":
    """Return a frame whose first plane is its luma, see `plane`: the same frame if it has one.

    Other frames, such as RGB and packed Y'CbCr, are converted to `planar_format`. Luma keeps its range. RGB
    becomes Y'CbCr of the limited range; tags of RGB that name a matrix are ignored.

    Args:
        frame: as decoded.
        converter: one for all frames, since it keeps what it has prepared.
        matrix: for the conversion from RGB.

    Raises:
        av.FFmpegError: FFmpeg cannot convert the frame.
    """
    if _has_planes(frame.format):
        return frame
    if not _is_rgb(frame.format):
        return reformat(converter, frame, format=planar_format(frame.format), **same_range(frame))
    from av.video.reformatter import Colorspace

    result = reformat(
        converter,
        frame,
        format=planar_format(frame.format),
        src_color_range=_FULL,
        dst_color_range=_LIMITED,
        dst_colorspace=Colorspace.ITU709 if matrix == "bt709" else Colorspace.ITU601,
    )
    result.colorspace, result.color_range = _MATRICES[matrix], _LIMITED
    return result


def round_to_depth(samples: NDArray[Any], to_bits: int) -> NDArray[Any]:
    """Round samples of 8 or 16 bits to ``to_bits`` bits, half up; may overwrite ``samples``."""
    if samples.dtype == np.uint8:
        return np.left_shift(samples, to_bits - 8, dtype=np.uint16) if to_bits > 8 else samples
    if to_bits == 16:
        return samples
    down = 16 - to_bits
    np.minimum(samples, 0xFFFF - (1 << down >> 1), out=samples)
    samples += np.uint16(1 << down >> 1)
    samples >>= np.uint16(down)
    return samples


def _has_planes(format: "VideoFormat") -> bool:
    """Return whether the first plane is luma, with samples in the low bits of uint8 or uint16."""
    return format.name in _LUMA_FIRST_FORMATS


_LUMA_FIRST_FORMATS = frozenset(
    ["gray", "nv12", "nv21", "nv16", "nv24", "nv42"]
    + [f"gray{depth}le" for depth in (9, 10, 12, 14, 16)]
    + [f"yuvj{chroma}p" for chroma in (420, 422, 444, 440, 411)]
    + [f"{base}{chroma}p" for base in ("yuv", "yuva") for chroma in (420, 422, 444, 440, 411, 410)]
    + [
        f"{base}{chroma}p{depth}le"
        for base in ("yuv", "yuva")
        for chroma in (420, 422, 444, 440)
        for depth in (9, 10, 12, 14, 16)
    ]
)

_UNSPECIFIED, _LIMITED, _FULL = 0, 1, 2
"""AVCOL_RANGE_UNSPECIFIED, AVCOL_RANGE_MPEG and AVCOL_RANGE_JPEG, as in frames and `reformat`."""

_MATRICES: dict[Matrix, int] = {"bt709": 1, "bt601": 6}
"""Numbers of ITU-T H.273."""
