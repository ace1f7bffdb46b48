"""Side data of frames and streams, above all the static metadata of HDR10.

FFmpeg attaches the mastering display (SMPTE ST 2086) and the content light level (CTA-861.3) to every
decoded frame, as the bytes of two C structs. Encoders take both as text. Muxers take them from the side data
of a stream, which PyAV can only copy from another stream. So this module writes a Matroska header with
nothing else in it, for FFmpeg to read.
"""

import io
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer


@dataclass(frozen=True)
class MasteringDisplay:
    """The display on which the video was graded: chromaticities in CIE 1931 xy, luminance in cd/m²."""

    red: tuple[Fraction, Fraction]
    green: tuple[Fraction, Fraction]
    blue: tuple[Fraction, Fraction]
    white: tuple[Fraction, Fraction]
    luminance: tuple[Fraction, Fraction]
    """The least and the greatest."""


@dataclass(frozen=True)
class Hdr:
    """HDR10's static metadata of a stream; each part may be missing."""

    display: MasteringDisplay | None = None
    light: tuple[int, int] | None = None
    """The maximum of all pixels (MaxCLL) and of the averages of frames (MaxFALL), in cd/m²."""

    def __bool__(self) -> bool:
        """Whether there is any."""
        return self.display is not None or self.light is not None


def read_hdr(frame: "VideoFrame") -> Hdr:
    """The HDR10 metadata of a decoded frame."""
    from av.sidedata.sidedata import Type

    found = {side.type: bytes(side) for side in frame_side_data(frame)}
    display = light = None
    if (data := found.get(Type.MASTERING_DISPLAY_METADATA)) is not None:
        # AVMasteringDisplayMetadata: x and y of red, green, blue and white, then the least and the greatest
        # luminance, each a fraction of two ints; then two flags: whether colors and luminance are set.
        numbers = struct.unpack_from("=22i", data)
        fractions = [
            Fraction(n, d) if d else Fraction(0) for n, d in zip(*[iter(numbers[:20])] * 2, strict=True)
        ]
        pairs = [(fractions[i], fractions[i + 1]) for i in range(0, 10, 2)]
        if all(numbers[20:]):
            display = MasteringDisplay(*pairs)
    if (data := found.get(Type.CONTENT_LIGHT_LEVEL)) is not None:
        brightest, average = struct.unpack_from("=2I", data)
        light = (brightest, average)
    return Hdr(display, light)


def frame_side_data(frame: "VideoFrame") -> list[Any]:
    """All side data of a frame, each with its ``type`` and its bytes.

    A type that PyAV does not know gets a name of its own; see `describe_unknown`.
    """
    _accept_unknown_types()
    side_data: Any = frame.side_data
    return [side_data[index] for index in range(len(side_data))]


@cache
def _accept_unknown_types() -> None:
    """Make PyAV's enumeration of types accept every number.

    It has fewer types than FFmpeg. If a frame has side data of another type, PyAV returns none of the frame's
    side data.
    """
    from av.sidedata.sidedata import Type

    def unnamed(cls: type[Type], number: int) -> Type:
        member: Any = object.__new__(cls)
        member._name_, member._value_ = f"{_UNKNOWN}{number}", number
        return cls._value2member_map_.setdefault(number, member)  # type: ignore[return-value]

    Type._missing_ = classmethod(unnamed)  # type: ignore[assignment]


_UNKNOWN = "NAMELESS_"
"""The first letters of a name for an unknown type. Folders of interrupted jobs contain such names."""

_NEWER_TYPES = {
    28: "the enhancement layer of LCEVC",
    29: "the view number of MV-HEVC",
    30: "the 3D reference displays of MV-HEVC",
    31: "EXIF",
}
"""What FFmpeg's types of side data are that PyAV does not know, by number (AVFrameSideDataType)."""


def describe_unknown(names: Iterable[str]) -> list[str]:
    """Find the types of side data that PyAV does not know.

    Args:
        names: names of types, as `frame_side_data` gives them.

    Returns:
        A description of each unknown type, for messages.
    """
    numbers = sorted({int(name.removeprefix(_UNKNOWN)) for name in names if name.startswith(_UNKNOWN)})
    return [_NEWER_TYPES.get(number, f"FFmpeg's side data number {number}") for number in numbers]


def hdr_options(hdr: Hdr, codec: str) -> dict[str, str]:
    """The options with which an encoder writes HDR10 metadata into the bitstream; none if it cannot."""
    parts = {
        "libx264": ("x264-params", "mastering-display", "cll", 50_000, 10_000),
        "libx265": ("x265-params", "master-display", "max-cll", 50_000, 10_000),
        "libsvtav1": ("svtav1-params", "mastering-display", "content-light", None, None),
    }.get(codec)
    if parts is None or not hdr:
        return {}
    option, display_name, light_name, color_steps, light_steps = parts
    parameters = []
    if (display := hdr.display) is not None:

        def pair(values: tuple[Fraction, Fraction], steps: int | None) -> str:
            if steps is None:
                return "({:.5f},{:.5f})".format(*map(float, values))
            return "({},{})".format(*(round(value * steps) for value in values))

        colors = zip("GBR", (display.green, display.blue, display.red), strict=True)
        primaries = "".join(name + pair(value, color_steps) for name, value in colors)
        luminance = pair(display.luminance[::-1], light_steps)
        parameters.append(f"{display_name}={primaries}WP{pair(display.white, color_steps)}L{luminance}")
    if hdr.light is not None:
        parameters.append(f"{light_name}={hdr.light[0]},{hdr.light[1]}")
    return {option: ":".join(parameters)}


def prepend_parameters(options: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Merge options of an encoder. Under the same name, the values are lists, and ``more`` comes first."""
    result = dict(options)
    for name, value in more.items():
        result[name] = f"{value}:{result[name]}" if name in result else value
    return result


_SITINGS = {"left": (1, 2), "center": (2, 2), "topleft": (1, 1), "top": (2, 1)}
"""Matroska's chroma siting, across and down: 1 at a luma sample, 2 between two."""


def matroska_template(
    codec_id: str, hdr: Hdr, immersive: bytes = b"", siting: str | None = None
) -> "InputContainer":
    """A Matroska file in memory without frames. Its one stream is a template for a stream of an output.

    Args:
        codec_id: Matroska's name of the codec.
        hdr: the HDR10 metadata of the stream.
        immersive: further elements of the video track; see `immersive_elements`.
        siting: FFmpeg's name of the chroma siting; None if it is not known.
    """
    import av

    color = b""
    if siting in _SITINGS:
        across, down = _SITINGS[siting]
        color += ebml_element("55B7", ebml_uint(across)) + ebml_element("55B8", ebml_uint(down))
    if hdr.light is not None:
        color += ebml_element("55BC", ebml_uint(hdr.light[0])) + ebml_element("55BD", ebml_uint(hdr.light[1]))
    if (display := hdr.display) is not None:
        numbers = [*display.red, *display.green, *display.blue, *display.white, *display.luminance[::-1]]
        ids = ["55D1", "55D2", "55D3", "55D4", "55D5", "55D6", "55D7", "55D8", "55D9", "55DA"]
        color += ebml_element("55D0", *map(ebml_element, ids, map(_double, numbers)))
    side = ebml_uint(64)
    elements = (ebml_element("55B0", color) if color else b"") + immersive
    video = ebml_element("E0", ebml_element("B0", side), ebml_element("BA", side), elements)
    one = ebml_uint(1)
    codec = ebml_element("86", codec_id.encode())
    track = ebml_element(
        "AE", ebml_element("D7", one), ebml_element("73C5", one), ebml_element("83", one), codec, video
    )
    header = ebml_element("1A45DFA3", ebml_element("4282", b"matroska"), ebml_element("4287", ebml_uint(4)))
    info = ebml_element("1549A966", ebml_element("2AD7B1", ebml_uint(1_000_000)))
    cluster = ebml_element("1F43B675", ebml_element("E7", ebml_uint(0)))
    segment = ebml_element("18538067", info, ebml_element("1654AE6B", track), cluster)
    return av.open(io.BytesIO(header + segment), "r", format="matroska")


def ebml_element(id: str, *content: bytes) -> bytes:
    """An EBML element (RFC 8794).

    Args:
        id: its identifier in hexadecimal.
        content: its content, in parts. The length before it has eight bytes.
    """
    data = b"".join(content)
    return bytes.fromhex(id) + struct.pack(">Q", len(data) | 1 << 56) + data


def ebml_uint(value: int) -> bytes:
    """An unsigned integer of EBML, in eight bytes."""
    return value.to_bytes(8, "big")


def _double(value: Fraction) -> bytes:
    return struct.pack(">d", value)


def display_matrix(frame: "VideoFrame", across: float = 1, down: float = 1) -> Sequence[int] | None:
    """The 3x3 matrix with which a player rotates or mirrors a frame after upscaling.

    Args:
        frame: a decoded frame.
        across, down: how many times wider and higher its stored pixels become.

    Returns:
        Nine numbers in FFmpeg's layout; None if the matrix is the identity, or there is none.
    """
    from av.sidedata.sidedata import Type

    for side in frame_side_data(frame):
        if side.type == Type.DISPLAYMATRIX:
            matrix = struct.unpack_from("=9i", bytes(side))
            # An offset counts pixels of the screen.
            factors = (down, across) if is_quarter_turn(matrix) else (across, down)
            moved = [
                max(-_MAX_OFFSET, min(round(factor * steps), _MAX_OFFSET))
                for factor, steps in zip(factors, matrix[6:8], strict=True)
            ]
            return None if matrix == _IDENTITY else (*matrix[:6], *moved, matrix[8])
    return None


def is_quarter_turn(matrix: Sequence[int] | None) -> bool:
    """Whether a display matrix rotates by about 90 or 270 degrees, so that rows become columns."""
    return matrix is not None and abs(matrix[1]) > abs(matrix[0])


_IDENTITY = (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)

_MAX_OFFSET = (1 << 31) - 1
"""The greatest offset of a matrix: pixels in 16.16 fixed point."""
