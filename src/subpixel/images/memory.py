"""How much memory enlarging a picture takes, from its header alone."""

from pathlib import Path

from subpixel.engines.base import Engine
from subpixel.errors import ImageTooLarge
from subpixel.images.formats import WEBP, Format
from subpixel.images.picture import Header
from subpixel.images.tiles import STRIP_BYTES, TILE_SIDE_PX, workers_for

_MIB = 1 << 20
_FLOAT_BYTES = 4
_STRIPS_AT_ONCE = 5
"""Worked on, waiting, and being compressed."""
_PLANES_TO_FILL = 8
"""That are held while hidden colors are filled in."""
_COPIES_FOR_WEBP = 4
"""The samples, those that Pillow passes on, those that libwebp keeps, and the file."""


def needed_bytes(header: Header, engine: Engine, kind: Format) -> int:
    """About the most that enlarging a picture with an engine into a format will take.

    The samples are held whole, as often as their decoder does; hidden colors are filled in as floats; the
    enlarged picture exists in strips, but for WebP.
    """
    scale = engine.model.scale
    alpha = header.bands in (2, 4)
    samples = header.nbytes * (max(header.copies, 2) if alpha else header.copies)
    if alpha:
        samples += _PLANES_TO_FILL * _FLOAT_BYTES * header.width * header.height
    enlarged = header.nbytes * scale**2
    strips = min(enlarged, max(STRIP_BYTES, enlarged * 48 // header.height)) * _STRIPS_AT_ONCE
    if kind is WEBP:
        strips += _COPIES_FOR_WEBP * 4 * header.width * header.height * scale**2
    tile = TILE_SIDE_PX**2 * _FLOAT_BYTES * (scale**2 + 8)
    return samples + strips + workers_for(engine) * tile


def refuse_too_much(path: Path, header: Header, engine: Engine, kind: Format, max_mib: int) -> None:
    """Raise `ImageTooLarge` for a picture that needs more than a limit."""
    needed_mib = -(-needed_bytes(header, engine, kind) // _MIB)
    if needed_mib > max_mib:
        raise ImageTooLarge(
            f"{path}: {header.width} x {header.height} pixels would need about {needed_mib} MiB of memory, "
            f"more than the limit of {max_mib}; if that is meant, raise --max-memory (max_memory_mib)"
        )
