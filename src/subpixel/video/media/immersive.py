"""Metadata of spherical and stereoscopic video: read from a frame, written as elements of Matroska.

FFmpeg attaches both to every decoded frame as the bytes of C structs. A muxer gets them from the stream of
`subpixel.video.media.hdr.matroska_template`.
"""

import struct
from typing import TYPE_CHECKING

from subpixel.video.media.hdr import ebml_element, ebml_uint, frame_side_data

if TYPE_CHECKING:
    from av import VideoFrame

_EQUIRECTANGULAR, _CUBE_MAP, _EQUIRECTANGULAR_TILE, _RECTILINEAR = 0, 1, 2, 4
"""The values of FFmpeg's AVSphericalProjection that Matroska has, too."""

_PROJECTIONS = {_EQUIRECTANGULAR: 1, _CUBE_MAP: 2, _EQUIRECTANGULAR_TILE: 1, _RECTILINEAR: 0}
"""Matroska's ProjectionType for each."""

_STEREO_MODES = {
    (0, 0): 0,
    (1, 0): 1,
    (1, 1): 11,
    (2, 0): 3,
    (2, 1): 2,
    (3, 0): 13,
    (3, 1): 14,
    (4, 0): 5,
    (4, 1): 4,
    (6, 0): 7,
    (6, 1): 6,
    (7, 0): 9,
    (7, 1): 8,
}
"""Matroska's StereoMode for FFmpeg's type of AVStereo3D, and whether the right eye comes first."""

_DEGREE = 1 << 16
"""One degree in 16.16 fixed point."""


def immersive_elements(frame: "VideoFrame", scale: float) -> bytes:
    """Matroska's elements (RFC 9559) for the stereo mode and the projection of a frame after upscaling.

    Args:
        frame: a decoded frame.
        scale: how many times larger each side becomes.

    Returns:
        Elements of a video track; empty if the frame has no such metadata, or Matroska has no value for it.
    """
    from av.sidedata.sidedata import Type

    found = {side.type: bytes(side) for side in frame_side_data(frame)}
    result = b""
    if (data := found.get(Type.STEREO3D)) is not None:
        kind, flags = struct.unpack_from("=2i", data)
        if (mode := _STEREO_MODES.get((kind, flags & 1))) is not None:
            result += ebml_element("53B8", ebml_uint(mode))
    if (data := found.get(Type.SPHERICAL)) is not None:
        result += _projection(data, scale)
    return result


def _projection(data: bytes, scale: float) -> bytes:
    """Matroska's Projection for an AVSphericalMapping. Its private data is MP4's box equi or cbmp."""
    kind, *angles, left, top, right, bottom, padding = struct.unpack_from("=4i5I", data)
    if kind not in _PROJECTIONS:
        return b""
    private = b""
    if kind in (_EQUIRECTANGULAR, _EQUIRECTANGULAR_TILE):
        private = struct.pack(">5I", 0, top, bottom, left, right)
    elif kind == _CUBE_MAP:
        private = struct.pack(">3I", 0, 0, round(padding * scale))
    poses = [
        ebml_element(id, struct.pack(">f", angle / _DEGREE))
        for id, angle in zip(("7673", "7674", "7675"), angles, strict=True)
    ]
    content = [ebml_element("7671", ebml_uint(_PROJECTIONS[kind])), *poses]
    return ebml_element("7670", *content, *([ebml_element("7672", private)] if private else []))
