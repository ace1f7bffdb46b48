"""One frame made larger: its planes as the decoder gives them, luma through the network.

FFmpeg's bicubic makes the whole frame larger at its own depth, which carries everything that a frame holds
(chroma at its siting, alpha, tags, closed captions) to the large one; the network's luma then takes the place
of bicubic's. There is no detour over RGB.
"""

import io
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.base import Engine
from subpixel.engines.select import CompiledModel
from subpixel.errors import UnsupportedVideo
from subpixel.ops.color import Matrix

if TYPE_CHECKING:
    from av import VideoFormat, VideoFrame
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream


_SUBSAMPLINGS = {(1, 1): "420", (1, 0): "422", (0, 0): "444", (0, 1): "440", (2, 0): "411", (2, 2): "410"}
"""Names of what chroma is divided by, as powers of two: across and down."""


def bits(format: "VideoFormat") -> int:
    """How many bits a sample of luma (or of red) has."""
    return format.components[0].bits


def planar(format: "VideoFormat") -> str:
    """The planar Y'CbCr or gray format that holds all of a format, by FFmpeg's name.

    It has the same depth (9, 10, 12, 14 or 16 bits where there are more than 8; floats get 16) and the same
    subsampling; RGB becomes 4:4:4. Alpha is left out.
    """
    depth = min(bits(format), 16)
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
    """Whether luma spans all levels, black at 0; RGB becomes the limited range.

    Gray that does not say is taken for full, as FFmpeg takes it.
    """
    if _is_rgb(frame.format):
        return False
    gray = len(frame.format.components) < 3 and frame.color_range == _UNSAID
    return frame.color_range == _FULL or frame.format.name.startswith("yuvj") or gray


def _same_range(frame: "VideoFrame") -> dict[str, int]:
    """The range as `reformat` takes it: stated on both sides, lest FFmpeg squeezes the full one."""
    range = _FULL if is_full_range(frame) else _LIMITED
    return {"src_color_range": range, "dst_color_range": range}


def color(frame: "VideoFrame") -> tuple[int, int, int, int]:
    """Primaries, transfer, matrix and range of a frame once it is in planes, in the numbers of
    `Encoder.color`.
    """
    range = _FULL if is_full_range(frame) else int(frame.color_range)
    matrix = int(frame.colorspace)
    if _is_rgb(frame.format):
        matrix, range = _MATRICES["bt709"], _LIMITED
    return int(frame.color_primaries), int(frame.color_trc), matrix, range


def _is_rgb(format: "VideoFormat") -> bool:
    return format.is_rgb or format.has_palette


def chroma_location(frame: "VideoFrame") -> str | None:
    """Where samples of 4:2:0 chroma lie among those of luma: "left", "center", "topleft" or "top".

    None for any other chroma. PyAV does not tell, but FFmpeg's scaler knows: a ramp is given the frame's
    properties and enlarged, and shows by how much.
    """
    from av.video.reformatter import Interpolation, VideoReformatter

    if planar(frame.format) not in _SUBSAMPLED_TWICE:
        return None
    side, chroma_side = 64, 32
    # Samples at the left of their two pixels move by half of what those in the middle do: 64ths of a sample.
    ramp = VideoReformatter().reformat(frame, side, side, "yuv420p16le")
    plane(ramp, 1)[:] = np.arange(chroma_side, dtype=np.uint16) * 1024
    plane(ramp, 2)[:] = np.arange(chroma_side, dtype=np.uint16)[:, None] * 1024
    twice = VideoReformatter().reformat(ramp, 2 * side, 2 * side, interpolation=Interpolation.BILINEAR)
    middle = chroma_side
    across, down = (int(plane(twice, index)[middle, middle]) - middle // 2 * 1024 for index in (1, 2))
    centered = [moved < -192 for moved in (across, down)]
    return {(False, True): "left", (True, True): "center", (False, False): "topleft", (True, False): "top"}[
        centered[0], centered[1]
    ]


def says_where_chroma_lies(stream: "VideoStream") -> bool:
    """Whether a stream tells that; FFmpeg takes the middle for want of a word, as with VP9 and AV1.

    PyAV does not tell this either. Matroska's header has it, where it is told, so one is written to memory.
    """
    import av

    header = io.BytesIO()
    try:
        with av.open(header, "w", format="matroska") as output:
            copy = output.add_stream_from_template(stream, opaque=True)
            if stream.codec_context.name == "rawvideo":
                copy.codec_context.codec_tag = "I420"  # Matroska wants a tag, whichever
            output.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return _CHROMA_SITING in header.getvalue()


_CHROMA_SITING = bytes.fromhex("55B781")
"""Matroska's element ChromaSitingHorz, with the length of its content, one byte."""

_SUBSAMPLED_TWICE = frozenset(["yuv420p", *(f"yuv420p{depth}le" for depth in (9, 10, 12, 14, 16))])


def _halvings(whole: int, part: int) -> int:
    return next(power for power in range(4) if -(-whole // 2**power) == part)


def plane(frame: "VideoFrame", index: int) -> NDArray[Any]:
    """A plane's samples, ``(H, W)``, uint8 or uint16, where they lie in the frame."""
    buffer = frame.planes[index]
    dtype = np.dtype(np.uint8 if bits(frame.format) <= 8 else np.uint16)
    rows: NDArray[Any] = np.frombuffer(memoryview(buffer), np.uint8).reshape(-1, buffer.line_size)[
        : buffer.height
    ]
    return rows.view(dtype)[:, : buffer.width]


def in_planes(
    frame: "VideoFrame", converter: "VideoReformatter", *, matrix: Matrix = "bt709"
) -> "VideoFrame":
    """A frame whose luma is the whole of its first plane, see `plane`: itself, or what FFmpeg makes of it.

    Only frames of other kinds, such as RGB or packed Y'CbCr, are converted, to `planar`. Luma keeps its
    range; RGB becomes Y'CbCr in the limited one, whatever its tags say of a matrix that it has not.

    Args:
        frame: as decoded.
        converter: kept from frame to frame, so that it is prepared but once.
        matrix: what RGB is converted by.

    Raises:
        av.FFmpegError: FFmpeg cannot convert the frame.
    """
    if _has_planes(frame.format):
        return frame
    if not _is_rgb(frame.format):
        return converter.reformat(frame, format=planar(frame.format), **_same_range(frame))
    from av.video.reformatter import Colorspace

    result = converter.reformat(
        frame,
        format=planar(frame.format),
        src_color_range=_FULL,
        dst_color_range=_LIMITED,
        dst_colorspace=Colorspace.ITU709 if matrix == "bt709" else Colorspace.ITU601,
    )
    result.colorspace, result.color_range = _MATRICES[matrix], _LIMITED
    return result


class FrameUpscaler:
    """Makes frames larger with one model; keeps what can be kept between frames of one kind.

    Frames may change their size and format from one to the next, and several threads may call at once.
    """

    def __init__(self, compiled: CompiledModel, format: str | None = None, *, even: bool = False) -> None:
        """Prepare.

        Args:
            compiled: the model and its engines.
            format: FFmpeg's name of the planar Y'CbCr or gray format to make; by default what holds all of
                the frame's.
            even: whether the sides of the result must be even, as most codecs want them where chroma is
                subsampled: an odd one is made longer by one pixel, which repeats the last.
        """
        self._compiled = compiled
        self._format = format
        self._even = even
        self._own = threading.local()

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of what a frame of a size becomes."""
        sides = (width * self._compiled.scale, height * self._compiled.scale)
        return (sides[0] + sides[0] % 2, sides[1] + sides[1] % 2) if self._even else sides

    def __call__(self, frame: "VideoFrame") -> "VideoFrame":
        """Enlarge a frame.

        Returns:
            A new one, with the frame's times and everything else that FFmpeg attaches to it.

        Raises:
            UnsupportedVideo: the frame's samples are of a kind that FFmpeg cannot turn into planes.
            EngineError: the engine failed.
        """
        small, large = self._by_bicubic(frame)
        self._put_luma(plane(small, 0), bits(small.format), plane(large, 0), bits(large.format))
        return large

    def blank(self, frame: "VideoFrame") -> "VideoFrame":
        """What a frame becomes, but for the picture, which is gray: encoders make short work of that."""
        large = self._by_bicubic(frame)[1]
        for index in range(len(large.planes)):
            plane(large, index)[...] = 1 << bits(large.format) - 1
        return large

    def _by_bicubic(self, frame: "VideoFrame") -> "tuple[VideoFrame, VideoFrame]":
        """A frame in planes, and made larger."""
        import av
        from av.video.frame import PictureType
        from av.video.reformatter import Interpolation

        width, height = self.size(frame.width, frame.height)
        same_range = _same_range(frame)
        try:
            method, converter = self._reformatters()
            frame = in_planes(frame, converter)
            large = method.reformat(
                frame,
                width,
                height,
                self._format or planar(frame.format),
                interpolation=Interpolation.BICUBIC,
                **same_range,
            )
        except av.FFmpegError as error:
            raise UnsupportedVideo(
                f"frames of the pixel format {frame.format.name} cannot be enlarged ({error})"
            ) from error
        # How the input was coded says nothing of the output; encoders would take it for an order.
        large.pict_type = PictureType.NONE
        return frame, large

    def _reformatters(self) -> "tuple[VideoReformatter, VideoReformatter]":
        """FFmpeg's, to enlarge and to convert, which keep what they prepare; each thread has its own."""
        from av.video.reformatter import VideoReformatter

        if not hasattr(self._own, "reformatters"):
            self._own.reformatters = VideoReformatter(), VideoReformatter()
        reformatters: tuple[VideoReformatter, VideoReformatter] = self._own.reformatters
        return reformatters

    def _put_luma(self, small: NDArray[Any], small_bits: int, large: NDArray[Any], large_bits: int) -> None:
        """Fill ``large`` with the network's enlargement of ``small``."""
        halo_px, scale = self._compiled.model.spec.halo_px, self._compiled.scale
        rows, columns = (side * scale for side in small.shape)
        inside = large[:rows, :columns]
        # The network takes what lies beyond its input for black: the picture is continued by its edge.
        context = np.pad(small, halo_px, mode="edge")
        if small.dtype == np.uint8 and large.dtype == np.uint8:
            self._engine(small)(context, context_px=halo_px, out=inside)
        else:
            # Deeper samples span all of uint16 while they are in the engine.
            engine = self._engine(small)
            up = (16 if small.dtype == np.uint16 else 8) - small_bits
            result = engine(np.left_shift(context, up, out=context), context_px=halo_px)
            inside[...] = rounded(result, large_bits)
        large[:rows, columns:] = large[:rows, columns - 1 : columns]
        large[rows:] = large[rows - 1 : rows]

    def _engine(self, samples: NDArray[Any]) -> Engine:
        return self._compiled.engine_for(samples.dtype)


def rounded(samples: NDArray[Any], to_bits: int) -> NDArray[Any]:
    """Samples over the whole range of uint8 or uint16 in ``to_bits`` bits, rounded half up; may overwrite."""
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
    """Whether luma is the whole of a frame's first plane, its samples in the low bits of uint8 or uint16."""
    return format.name in _DIRECT


_DIRECT = frozenset(
    ["gray", "nv12", "nv21", "nv16", "nv24", "nv42"]
    + [f"gray{depth}le" for depth in (9, 10, 12, 14, 16)]
    + [f"yuvj{chroma}p" for chroma in (420, 422, 444, 440, 411)]
    + [f"{kind}{chroma}p" for kind in ("yuv", "yuva") for chroma in (420, 422, 444, 440, 411, 410)]
    + [
        f"{kind}{chroma}p{depth}le"
        for kind in ("yuv", "yuva")
        for chroma in (420, 422, 444, 440)
        for depth in (9, 10, 12, 14, 16)
    ]
)

_UNSAID, _LIMITED, _FULL = 0, 1, 2
"""AVCOL_RANGE_UNSPECIFIED, AVCOL_RANGE_MPEG and AVCOL_RANGE_JPEG, as frames and `reformat` count them."""

_MATRICES: dict[Matrix, int] = {"bt709": 1, "bt601": 6}
"""Numbers of ITU-T H.273."""
