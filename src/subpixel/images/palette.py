"""Palettes of images with few colors, which PNG stores in a fraction of the size."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_COLORS = 256
_BAND_PIXELS = 1 << 16
"""Number of pixels that are looked at together, so that a photograph costs little time."""


@dataclass(frozen=True, eq=False)
class Palette:
    """At most `MAX_COLORS` colors, transparent ones first."""

    keys: NDArray[np.uint32]
    """Each color as one number, sorted; see `_keys`."""

    @property
    def bits(self) -> int:
        """Bits per pixel: 1, 2, 4 or 8."""
        return next(bits for bits in (1, 2, 4, 8) if len(self.keys) <= 1 << bits)

    @property
    def rgb(self) -> bytes:
        """Red, green and blue of each color."""
        return self._bytes()[:, 1:].tobytes()

    @property
    def alpha(self) -> bytes:
        """Alpha of each color, without the opaque ones, which are the last."""
        return self._bytes()[:, 0].tobytes().rstrip(b"\xff")

    def _bytes(self) -> NDArray[np.uint8]:
        return self.keys.astype(">u4").view(np.uint8).reshape(-1, 4)

    def index(self, red: int, green: int, blue: int) -> int | None:
        """Return the position of an opaque color; None if there is none."""
        found = np.flatnonzero(self.keys == (0xFF << 24 | red << 16 | green << 8 | blue))
        return int(found[0]) if len(found) else None

    def pack(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return rows of packed positions, ``(H, W * bits / 8)``, for pixels ``(H, W, 3 or 4)``."""
        indices = np.searchsorted(self.keys, _keys(pixels)).astype(np.uint8)
        if self.bits == 8:
            return indices
        bits = np.unpackbits(indices[..., None], axis=2)[:, :, 8 - self.bits :]
        return np.packbits(bits.reshape(len(indices), -1), axis=1)


def find_palette(samples: NDArray[Any]) -> Palette | None:
    """Return the palette of an image; None if it is not RGB with 8 bits, or has too many colors.

    Args:
        samples: ``(H, W)`` or ``(H, W, 2 to 4)``; 3 channels are RGB, 4 are RGB and alpha.
    """
    if samples.dtype != np.uint8 or samples.ndim < 3 or samples.shape[2] < 3:
        return None
    keys = np.empty(0, np.uint32)
    rows = max(1, _BAND_PIXELS // samples.shape[1])
    for top in range(0, len(samples), rows):
        keys = np.union1d(keys, _keys(samples[top : top + rows]))
        if len(keys) > MAX_COLORS:
            return None
    return Palette(keys)


def _keys(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return each pixel as one number: alpha in the upper 8 bits, then red, green and blue."""
    has_alpha = pixels.shape[2] == 4
    keys = pixels[..., 3].astype(np.uint32) if has_alpha else np.full(pixels.shape[:2], 0xFF, np.uint32)
    for channel in range(3):
        keys <<= np.uint32(8)
        keys |= pixels[..., channel]
    return keys
