"""HDR10's static metadata: read from a frame, told to encoders, and put into a container.

FFmpeg attaches what a container or a bitstream says about the mastering display (SMPTE ST 2086) and the light
levels (CTA-861.3) to every decoded frame, as the bytes of two C structs. Encoders take it as text. Containers
take it from the stream, which PyAV can give side data only from another stream: so a Matroska header is
written here that holds nothing else, for FFmpeg to read.
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
    """The display that the picture was graded on; CIE 1931 xy, and cd/m²."""

    red: tuple[Fraction, Fraction]
    green: tuple[Fraction, Fraction]
    blue: tuple[Fraction, Fraction]
    white: tuple[Fraction, Fraction]
    luminance: tuple[Fraction, Fraction]
    """The lowest and the highest."""


@dataclass(frozen=True)
class Hdr:
    """What a stream says of its light; each part may be missing."""

    display: MasteringDisplay | None = None
    light: tuple[int, int] | None = None
    """The brightest pixel of all and the brightest frame's average (MaxCLL, MaxFALL), in cd/m²."""

    def __bool__(self) -> bool:
        """Whether it says anything."""
        return self.display is not None or self.light is not None


def hdr(frame: "VideoFrame") -> Hdr:
    """What a decoded frame carries."""
    from av.sidedata.sidedata import Type

    found = {side.type: bytes(side) for side in attached(frame)}
    display = light = None
    if (data := found.get(Type.MASTERING_DISPLAY_METADATA)) is not None:
        # AVMasteringDisplayMetadata: red, green, blue and white as x, y, then the least and the highest
        # luminance, all of them fractions of two ints; then which of both parts are there.
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


def attached(frame: "VideoFrame") -> list[Any]:
    """All that FFmpeg attaches to a frame, each with its ``type`` and its bytes.

    The type of what PyAV has no name for is none of the enumeration's named ones; see `unknown`.
    """
    _admit_every_type()
    side_data: Any = frame.side_data
    return [side_data[index] for index in range(len(side_data))]


@cache
def _admit_every_type() -> None:
    """Have PyAV's enumeration take every number.

    It has fewer than FFmpeg, and where a frame carries anything with another one, PyAV hands out none of what
    the frame carries.
    """
    from av.sidedata.sidedata import Type

    def nameless(cls: type[Type], number: int) -> Type:
        member: Any = object.__new__(cls)
        member._name_, member._value_ = f"{_NAMELESS}{number}", number
        return cls._value2member_map_.setdefault(number, member)  # type: ignore[return-value]

    Type._missing_ = classmethod(nameless)  # type: ignore[assignment]


_NAMELESS = "NAMELESS_"

_NEWER = {
    28: "LCEVC's enhancement layer",
    29: "which view it is (MV-HEVC)",
    30: "reference displays of 3D (MV-HEVC)",
    31: "EXIF",
}
"""Numbers of FFmpeg's AVFrameSideDataType that PyAV does not know, in words for people."""


def unknown(names: Iterable[str]) -> list[str]:
    """What is among the names of types of side data that PyAV has none for, in words for people."""
    numbers = sorted({int(name.removeprefix(_NAMELESS)) for name in names if name.startswith(_NAMELESS)})
    return [_NEWER.get(number, f"FFmpeg's side data number {number}") for number in numbers]


def encoder_options(hdr: Hdr, codec: str) -> dict[str, str]:
    """The options that make an encoder write it into the bitstream, where one of ours can."""
    parts = {
        "libx264": ("x264-params", "mastering-display", "cll", 50_000, 10_000),
        "libx265": ("x265-params", "master-display", "max-cll", 50_000, 10_000),
        "libsvtav1": ("svtav1-params", "mastering-display", "content-light", None, None),
    }.get(codec)
    if parts is None or not hdr:
        return {}
    option, display_name, light_name, color_steps, light_steps = parts
    words = []
    if (display := hdr.display) is not None:

        def pair(values: tuple[Fraction, Fraction], steps: int | None) -> str:
            if steps is None:
                return "({:.5f},{:.5f})".format(*map(float, values))
            return "({},{})".format(*(round(value * steps) for value in values))

        colors = zip("GBR", (display.green, display.blue, display.red), strict=True)
        primaries = "".join(name + pair(value, color_steps) for name, value in colors)
        luminance = pair(display.luminance[::-1], light_steps)
        words.append(f"{display_name}={primaries}WP{pair(display.white, color_steps)}L{luminance}")
    if hdr.light is not None:
        words.append(f"{light_name}={hdr.light[0]},{hdr.light[1]}")
    return {option: ":".join(words)}


def with_parameters(options: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Options of an encoder with more put before what they say under the same name, in lists of its own."""
    result = dict(options)
    for name, value in more.items():
        result[name] = f"{value}:{result[name]}" if name in result else value
    return result


_SITINGS = {"left": (1, 2), "center": (2, 2), "topleft": (1, 1), "top": (2, 1)}
"""Matroska's numbers for where chroma lies, across and down: 1 with luma, 2 in the middle."""


def carrier(codec_id: str, hdr: Hdr, immersive: bytes = b"", siting: str | None = None) -> "InputContainer":
    """A Matroska file in memory without frames, whose one stream is of a codec and says what ``hdr`` does.

    Args:
        codec_id: Matroska's name of the codec.
        hdr: what it shall say.
        immersive: what else, as elements of the video track.
        siting: where chroma lies, in FFmpeg's words; None to say nothing.
    """
    import av

    color = b""
    if siting in _SITINGS:
        across, down = _SITINGS[siting]
        color += element("55B7", uint(across)) + element("55B8", uint(down))
    if hdr.light is not None:
        color += element("55BC", uint(hdr.light[0])) + element("55BD", uint(hdr.light[1]))
    if (display := hdr.display) is not None:
        numbers = [*display.red, *display.green, *display.blue, *display.white, *display.luminance[::-1]]
        ids = ["55D1", "55D2", "55D3", "55D4", "55D5", "55D6", "55D7", "55D8", "55D9", "55DA"]
        color += element("55D0", *map(element, ids, map(_double, numbers)))
    side = uint(64)
    said = (element("55B0", color) if color else b"") + immersive
    video = element("E0", element("B0", side), element("BA", side), said)
    one = uint(1)
    kind = element("86", codec_id.encode())
    track = element("AE", element("D7", one), element("73C5", one), element("83", one), kind, video)
    header = element("1A45DFA3", element("4282", b"matroska"), element("4287", uint(4)))
    info = element("1549A966", element("2AD7B1", uint(1_000_000)))
    cluster = element("1F43B675", element("E7", uint(0)))
    segment = element("18538067", info, element("1654AE6B", track), cluster)
    return av.open(io.BytesIO(header + segment), "r", format="matroska")


def element(id: str, *content: bytes) -> bytes:
    """An EBML element (RFC 8794): its identifier in hexadecimal, its length in eight bytes, its content."""
    whole = b"".join(content)
    return bytes.fromhex(id) + struct.pack(">Q", len(whole) | 1 << 56) + whole


def uint(value: int) -> bytes:
    """A number as EBML has it."""
    return value.to_bytes(8, "big")


def _double(value: Fraction) -> bytes:
    return struct.pack(">d", value)


def display_matrix(frame: "VideoFrame", scale: int = 1) -> Sequence[int] | None:
    """The nine numbers by which a player turns or mirrors the picture, in FFmpeg's layout; None if it
    doesn't. They are those for a frame that is ``scale`` times as large.
    """
    from av.sidedata.sidedata import Type

    for side in attached(frame):
        if side.type == Type.DISPLAYMATRIX:
            matrix = struct.unpack_from("=9i", bytes(side))
            moved = [max(-_FARTHEST, min(scale * steps, _FARTHEST)) for steps in matrix[6:8]]
            return None if matrix == _AS_IT_LIES else (*matrix[:6], *moved, matrix[8])
    return None


_AS_IT_LIES = (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
"""The matrix that turns nothing."""

_FARTHEST = (1 << 31) - 1
"""In 16.16 fixed point, as pixels are that a matrix moves by."""
