"""How a picture is spread on a sphere, and seen by two eyes: read from a frame, put into a container.

FFmpeg attaches both to every decoded frame as the bytes of C structs. A container gets them from the stream
that `subpixel.video.media.hdr.carrier` makes.
"""

import struct
from typing import TYPE_CHECKING

from subpixel.video.media.hdr import attached, element, uint

if TYPE_CHECKING:
    from av import VideoFrame

_WHOLE_SPHERE, _CUBE, _PART_OF_SPHERE, _FLAT = 0, 1, 2, 4
"""AVSphericalProjection, as far as Matroska knows it."""

_PROJECTIONS = {_WHOLE_SPHERE: 1, _CUBE: 2, _PART_OF_SPHERE: 1, _FLAT: 0}
"""Matroska's numbers for them (ProjectionType)."""

_EYES = {(0, 0): 0, (1, 0): 1, (1, 1): 11, (2, 0): 3, (2, 1): 2, (3, 0): 13, (3, 1): 14, (4, 0): 5, (4, 1): 4}
_EYES |= {(6, 0): 7, (6, 1): 6, (7, 0): 9, (7, 1): 8}
"""Matroska's StereoMode for AVStereo3D's type, and whether the right eye comes first."""

_DEGREE = 1 << 16
"""Angles are in 16.16 fixed point."""


def immersive(frame: "VideoFrame", scale: int) -> bytes:
    """What Matroska says of a frame that is ``scale`` times as large: elements of its video track (RFC 9559).

    Empty where there is nothing, or nothing that Matroska has a word for.
    """
    from av.sidedata.sidedata import Type

    found = {side.type: bytes(side) for side in attached(frame)}
    result = b""
    if (data := found.get(Type.STEREO3D)) is not None:
        kind, flags = struct.unpack_from("=2i", data)
        if (mode := _EYES.get((kind, flags & 1))) is not None:
            result += element("53B8", uint(mode))
    if (data := found.get(Type.SPHERICAL)) is not None:
        result += _projection(data, scale)
    return result


def _projection(data: bytes, scale: int) -> bytes:
    """Matroska's Projection of an AVSphericalMapping; what is private in it are MP4's boxes equi and cbmp."""
    kind, *angles, left, top, right, bottom, padding = struct.unpack_from("=4i5I", data)
    if kind not in _PROJECTIONS:
        return b""
    private = b""
    if kind in (_WHOLE_SPHERE, _PART_OF_SPHERE):
        private = struct.pack(">5I", 0, top, bottom, left, right)
    elif kind == _CUBE:
        private = struct.pack(">3I", 0, 0, padding * scale)
    poses = [
        element(id, struct.pack(">f", angle / _DEGREE))
        for id, angle in zip(("7673", "7674", "7675"), angles, strict=True)
    ]
    content = [element("7671", uint(_PROJECTIONS[kind])), *poses]
    return element("7670", *content, *([element("7672", private)] if private else []))
