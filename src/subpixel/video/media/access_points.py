"""Finds in the content of a packet whether decoding can begin there.

Containers mark key frames, but not reliably: an MP4 without a table of them marks every packet, and where
H.264 refreshes a column of each frame, packets are marked that decode to gray. So their headers decide.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntFlag
from typing import NamedTuple

from subpixel.images.bits import BitReader


class Access(IntFlag):
    """What the content of a packet says."""

    ENTRY = 1
    """Decoding can begin here, for this frame and all that are decoded and shown after it."""
    LEADING = 2
    """Its frame may be shown before that of an earlier packet, and then depend on frames before that one."""
    HIDDEN = 4
    """It gives no frame: it is only a reference for others."""
    PARAMETERS = 8
    """It repeats the parameters of the stream, such as SPS and PPS."""
    SEVERAL = 16
    """It contains several frames."""
    OPEN = 32
    """It is an entry, but frames of later packets may be shown before it; otherwise `LEADING` tells that."""


_HEAD_BYTES = 4096
"""So much of a packet contains its headers, except with long messages for the decoder."""

_NO_ACCESS = Access(0)


@dataclass(frozen=True)
class Classifier:
    """Classifies the packets of a codec.

    Attributes:
        access: returns the `Access` of a packet. May raise ValueError or IndexError for a damaged one.
        parameters: returns the parameters in a packet, by their kind.
        head_bytes: how many of the first bytes of a packet both need; None for all.
    """

    access: Callable[[bytes], Access]
    parameters: Callable[[bytes], dict[int, bytes]] = lambda packet: {}
    head_bytes: int | None = _HEAD_BYTES


def classifier(codec: str, extradata: bytes = b"", *, is_intra_only: bool = False) -> Classifier | None:
    """Return what classifies the packets of a codec.

    None if we do not know how its frames depend on each other.

    Args:
        codec: FFmpeg's name.
        extradata: of the stream, which shows how NAL units are separated.
        is_intra_only: whether all frames are independent, as FFmpeg says.
    """
    if codec in ("h264", "hevc"):
        unit_of, kinds, offset = (
            (_h264_unit, (7, 8), 4) if codec == "h264" else (_hevc_unit, (32, 33, 34), 21)
        )
        size = _length_size(extradata, offset)
        kind_of = _h264_kind if codec == "h264" else _hevc_kind
        return Classifier(
            functools.partial(_classify_units, unit_of, size),
            functools.partial(_parameter_sets, kind_of, kinds, size),
            None,
        )
    if codec in _CLASSIFIERS:
        return _CLASSIFIERS[codec]
    if codec in _INTRA_ONLY or is_intra_only:
        return Classifier(lambda packet: Access.ENTRY, head_bytes=1)
    return None


_INTRA_ONLY = ("png",)
"""Codecs with independent frames, of which FFmpeg does not say so."""


def _length_size(extradata: bytes, offset: int) -> int:
    """How many bytes give the length of each NAL unit; 0 if start codes separate them."""
    return (extradata[offset] & 3) + 1 if len(extradata) > offset and extradata[0] == 1 else 0


def _units(packet: bytes, length_size: int) -> Iterator[bytes]:
    """The NAL units of a packet; only their beginning if they are long."""
    if length_size:
        at = 0
        while at + length_size < len(packet):
            size = int.from_bytes(packet[at : at + length_size])
            at += length_size
            yield packet[at : at + min(size, _HEAD_BYTES)]
            at += size
        return
    at = packet.find(b"\0\0\1")
    while at >= 0:
        end = packet.find(b"\0\0\1", at + 3, at + 3 + _HEAD_BYTES)
        if end < 0:
            yield packet[at + 3 : at + 3 + _HEAD_BYTES]
            end = packet.find(b"\0\0\1", at + 3)
        else:
            yield packet[at + 3 : end]
        at = end


class _Unit(NamedTuple):
    """What a NAL unit says."""

    is_slice: bool = False
    access: Access = _NO_ACCESS
    """Of a slice: that of its packet; otherwise only `PARAMETERS`."""
    recovers: bool = False
    """Of a slice: whether it is an entry after a recovery point; otherwise whether it is such a point."""


def _classify_units(unit_of: Callable[[bytes, bool], _Unit], length_size: int, packet: bytes) -> Access:
    """Classify a packet of H.264 or HEVC by its NAL units up to the first slice."""
    found, recovers = _NO_ACCESS, False
    for content in filter(None, _units(packet, length_size)):
        unit = unit_of(content, recovers)
        found |= unit.access
        if unit.is_slice:
            return found | (Access.ENTRY | Access.OPEN if unit.recovers else _NO_ACCESS)
        recovers = recovers or unit.recovers
    return found


def _parameter_sets(
    kind_of: Callable[[bytes], int], kinds: tuple[int, ...], length_size: int, packet: bytes
) -> dict[int, bytes]:
    """The parameter sets of H.264 or HEVC in a packet, by their kind."""
    found: dict[int, bytes] = {}
    for unit in filter(None, _units(packet, length_size)):
        if (kind := kind_of(unit)) in kinds:
            found[kind] = found.get(kind, b"") + unit
    return found


def _h264_kind(unit: bytes) -> int:
    return unit[0] & 31


def _hevc_kind(unit: bytes) -> int:
    return unit[0] >> 1 & 63


def _h264_unit(unit: bytes, recovers: bool) -> _Unit:
    """H.264, 7.3 and 7.4.1, perhaps after a recovery point."""
    kind = _h264_kind(unit)
    if kind == 5:  # IDR
        return _Unit(is_slice=True, access=Access.ENTRY)
    if kind in (1, 2):
        if not recovers:
            return _Unit(is_slice=True)
        reader = BitReader(unit[1:24].replace(b"\0\0\3", b"\0\0"))
        reader.golomb()  # first_mb_in_slice
        return _Unit(is_slice=True, recovers=reader.golomb() % 5 in (2, 4))  # I and SI
    if kind == 6:
        return _Unit(recovers=_has_exact_recovery_point(unit))
    return _Unit(access=Access.PARAMETERS if kind in (7, 8) else _NO_ACCESS)


def _has_exact_recovery_point(unit: bytes) -> bool:
    """Whether SEI has a recovery point (D.1.8) from which on frames are exact at once."""
    data = unit[1:].replace(b"\0\0\3", b"\0\0")
    at = 0
    while at + 2 < len(data):
        numbers = []
        for _ in range(2):  # payload type and size
            number = 0
            while at < len(data) and data[at] == 0xFF:
                number, at = number + 255, at + 1
            numbers.append(number + (data[at] if at < len(data) else 0))
            at += 1
        if numbers[0] == 6:
            reader = BitReader(data[at : at + 16])
            frames, is_exact, is_broken = reader.golomb(), reader.flag(), reader.flag()
            return frames == 0 and is_exact and not is_broken
        at += numbers[1]
    return False


def _hevc_unit(unit: bytes, recovers: bool) -> _Unit:
    """HEVC, 7.4.2.2, where decoding does not begin at recovery points."""
    kind, layer = _hevc_kind(unit), (unit[0] & 1) << 5 | unit[1] >> 3 if len(unit) > 1 else 0
    if layer:
        return _Unit()
    if kind < 32:
        is_entry, leads = 16 <= kind <= 21, 6 <= kind <= 9  # BLA, IDR and CRA; RADL and RASL
        access = Access.ENTRY if is_entry else Access.LEADING if leads else _NO_ACCESS
        return _Unit(is_slice=True, access=access)
    return _Unit(access=Access.PARAMETERS if kind in (32, 33, 34) else _NO_ACCESS)


def _mpeg12(packet: bytes) -> Access:
    """MPEG-1 and MPEG-2: the type in the picture header (ISO 13818-2, 6.2.3)."""
    at = packet.find(b"\0\0\1\0")
    if at < 0 or at + 5 >= len(packet):
        return _NO_ACCESS
    kind = packet[at + 5] >> 3 & 7
    sequence = Access.PARAMETERS if packet.find(b"\0\0\1\xb3", 0, at) >= 0 else _NO_ACCESS
    return sequence | {1: Access.ENTRY, 3: Access.LEADING}.get(kind, _NO_ACCESS)


def _mpeg12_parameters(packet: bytes) -> dict[int, bytes]:
    """The sequence header with its extensions, up to the group of pictures, which counts time."""
    start = packet.find(b"\0\0\1\xb3")
    ends = [packet.find(code, start) for code in (b"\0\0\1\xb8", b"\0\0\1\0")]
    return {} if start < 0 else {0xB3: packet[start : min((end for end in ends if end >= 0), default=None)]}


def _mpeg4(packet: bytes) -> Access:
    """MPEG-4 part 2: the type in the header of the VOP."""
    at = packet.find(b"\0\0\1\xb6")
    if at < 0 or at + 4 >= len(packet):
        return _NO_ACCESS
    found = Access.PARAMETERS if _mpeg4_parameters(packet[:at]) else _NO_ACCESS
    if packet.find(b"\0\0\1\xb6", at + 4) >= 0:
        found |= Access.SEVERAL
    return found | {0: Access.ENTRY, 2: Access.LEADING}.get(packet[at + 4] >> 6, _NO_ACCESS)


_LAYERS = {bytes([code]) for code in range(0x20, 0x30)}


def _mpeg4_parameters(packet: bytes) -> dict[int, bytes]:
    """The header of the VOL."""
    at = packet.find(b"\0\0\1")
    while at >= 0:
        end = packet.find(b"\0\0\1", at + 3)
        if packet[at + 3 : at + 4] in _LAYERS:
            return {0x20: packet[at : end if end >= 0 else len(packet)]}
        at = end
    return {}


def _msmpeg4(packet: bytes) -> Access:
    return Access.ENTRY if packet[0] >> 6 == 0 else _NO_ACCESS


def _wmv2(packet: bytes) -> Access:
    return Access.ENTRY if packet[0] >> 7 == 0 else _NO_ACCESS


def _flv1(packet: bytes) -> Access:
    """Sorenson's H.263 of Flash."""
    reader = BitReader(packet[:16])
    reader.unsigned(17 + 5 + 8)
    size = reader.unsigned(3)
    reader.unsigned({0: 16, 1: 32}.get(size, 0))
    return Access.ENTRY if reader.unsigned(2) == 0 else _NO_ACCESS


def _vp8(packet: bytes) -> Access:
    """VP8: the frame tag (RFC 6386, 9.1)."""
    hidden = _NO_ACCESS if packet[0] & 16 else Access.HIDDEN
    return hidden | (_NO_ACCESS if packet[0] & 1 else Access.ENTRY)


def _vp9(packet: bytes) -> Access:
    """VP9: the beginning of the uncompressed header of the first frame."""
    reader = BitReader(packet[:4])
    reader.unsigned(2)
    if reader.flag() + 2 * reader.flag() == 3:
        reader.flag()
    if reader.flag():  # show_existing_frame
        return _NO_ACCESS
    return _NO_ACCESS if reader.flag() else Access.ENTRY


def _av1(packet: bytes) -> Access:
    """AV1: a sequence header, and then a key frame that is shown (5.9.2)."""
    at, found = 0, _NO_ACCESS
    while at < len(packet):
        kind, has_extension, has_size = packet[at] >> 3 & 15, packet[at] >> 2 & 1, packet[at] >> 1 & 1
        at += 1 + has_extension
        size = len(packet) - at
        if has_size:
            size, at = _leb128(packet, at)
        if kind == 1:
            found |= Access.PARAMETERS
        if kind in (3, 6):
            reader = BitReader(packet[at : at + 1])
            shows_earlier, type, is_shown = reader.flag(), reader.unsigned(2), reader.flag()
            if found and not shows_earlier and type == 0 and is_shown:
                found |= Access.ENTRY
            return found
        at += size
    return found


def _leb128(packet: bytes, at: int) -> tuple[int, int]:
    """Read a number; return it and the position after it."""
    number = 0
    for index in range(8):
        if at + index >= len(packet):
            break
        number |= (packet[at + index] & 127) << 7 * index
        if not packet[at + index] & 128:
            return number, at + index + 1
    raise ValueError("a header is damaged")


def _theora(packet: bytes) -> Access:
    return Access.ENTRY if packet[0] & 0xC0 == 0 else _NO_ACCESS


_MPEG12 = Classifier(_mpeg12, _mpeg12_parameters)

_CLASSIFIERS = {
    "mpeg1video": _MPEG12,
    "mpeg2video": _MPEG12,
    "mpeg4": Classifier(_mpeg4, _mpeg4_parameters, None),
    **{
        name: Classifier(access)
        for name, access in {
            "msmpeg4v2": _msmpeg4,
            "msmpeg4v3": _msmpeg4,
            "wmv1": _msmpeg4,
            "wmv2": _wmv2,
            "flv1": _flv1,
            "vp8": _vp8,
            "vp9": _vp9,
            "av1": _av1,
            "theora": _theora,
        }.items()
    },
}
