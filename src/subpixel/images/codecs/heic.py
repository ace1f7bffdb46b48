"""Reads HEIC: boxes and metadata here, samples by libheif and libde265 through pillow-heif.

pillow-heif is an extra (``heif``), because its wheels are under the GPL.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.errors import UnreadableImage, UnsupportedImage
from subpixel.images.codecs import heif_image
from subpixel.images.heif import read_container
from subpixel.images.heif_description import describe
from subpixel.images.image import DecodedImage, Header

_COPIES = 4
"""Copies of the samples: YUV of the decoder and of the complete image, RGB, and two that are passed on."""


def read(path: Path, approve: Callable[[Header], None]) -> DecodedImage:
    """Read a HEIC file. ``approve`` gets the header before pixels are decoded."""
    container = read_container(path)
    if container.primary_id not in container.items:
        what = "a sequence of images" if container.has_sequence else "a HEIF file without a primary image"
        raise UnsupportedImage(f"{path}: is {what}; extract its images, and pass them one by one")
    found = describe(container)
    channels = (1 if found.is_gray else 3) + found.has_alpha
    approve(Header(*found.upright_size, channels, found.bits > 8, _COPIES))
    samples = _decode(path, found.bits)
    if samples.shape[1::-1] != found.upright_size:
        raise UnreadableImage(
            f"{path}: the HEIC file is damaged (its sizes contradict each other); get it again"
        )
    return heif_image.decoded(samples, found)


def _decode(path: Path, bits: int) -> NDArray[Any]:
    """The samples of the primary image. libheif crops and rotates them."""
    import pillow_heif

    file = pillow_heif.open_heif(path, convert_hdr_to_8bit=False)
    image = file[file.primary_index]
    if "a" in image.mode:
        raise UnsupportedImage(f"{path}: its colors are multiplied by its alpha; convert it to PNG first")
    samples = np.asarray(image)
    if samples.dtype == np.uint8:
        return samples
    # pillow-heif shifts samples to the left, and fills with zeros.
    return heif_image.to_full_range(samples >> (16 - bits), bits)
