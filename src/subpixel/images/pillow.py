"""Conversion between Pillow images and arrays."""

import errno
import os
import tempfile
from io import BytesIO
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from subpixel.errors import UnsupportedImage
from subpixel.images.codecs.jpeg_file import END

_PLAIN = {"L", "LA", "RGB", "RGBA"}
_CONVERTED = {"1": "L", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB", "PA": "RGBA", "YCbCr": "RGB", "HSV": "RGB"}


def to_samples(image: Image.Image) -> NDArray[Any]:
    """Convert a Pillow image to an array.

    Args:
        image: in any mode except I and F, whose range is unknown.

    Returns:
        ``(H, W)`` gray, ``(H, W, 2)`` gray and alpha, ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGBA: uint16 for
        Pillow's 16-bit modes, otherwise uint8. Palettes become RGB, 1-bit images gray. A color or palette
        entry marked as transparent becomes alpha. CMYK and Lab are converted to sRGB, CMYK through the
        embedded profile if there is one.

    Raises:
        UnsupportedImage: mode I or F.
    """
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16, copy=False)  # converts the byte order if necessary
    if image.mode in ("CMYK", "LAB"):
        return np.asarray(_to_srgb(image))
    transparent = "transparency" in image.info
    if image.mode == "P":
        image = image.convert("RGBA" if transparent else "RGB")
    elif transparent and image.mode in ("1", "L", "RGB"):
        image = image.convert("RGBA" if image.mode == "RGB" else "LA")
    elif image.mode in _CONVERTED:
        image = image.convert(_CONVERTED[image.mode])
    if image.mode not in _PLAIN:
        raise UnsupportedImage(
            f"an image of mode {image.mode} has samples of unknown range; "
            "pass an array of uint8, uint16, or float32 in [0, 1]"
        )
    return np.asarray(image)


def from_samples(samples: NDArray[Any]) -> Image.Image:
    """Convert an array to a Pillow image of mode L, LA, RGB, RGBA or I;16: the inverse of `to_samples`."""
    return Image.fromarray(samples)


def with_info_of(source: Image.Image, result: Image.Image) -> Image.Image:
    """Give a result the ``info`` of the image it was made of, except what is no longer true."""
    result.info = {key: value for key, value in source.info.items() if key != "transparency"}
    if source.mode in ("CMYK", "LAB"):
        result.info.pop("icc_profile", None)
    return result


def to_jpeg(samples: NDArray[np.uint8], quality: int) -> bytes:
    """Compress ``(H, W)`` gray or ``(H, W, 3)`` RGB samples as a baseline JPEG file, without subsampling."""
    # Pillow lets go of the interpreter's lock only if it writes to a file of the operating system. It does
    # not notice if only a part of its last bytes was written.
    with _unnamed_file() as file:
        from_samples(samples).save(file, "JPEG", quality=quality, subsampling="4:4:4")
        file.seek(0)
        data = file.read()
    if not data.endswith(END):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return data


def _unnamed_file() -> IO[bytes]:
    """Open a temporary file, in memory if the operating system has such files."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("subpixel"), "w+b")
    return tempfile.TemporaryFile()


def cmyk_to_srgb(samples: NDArray[np.uint8], profile: bytes | None) -> NDArray[np.uint8]:
    """Convert CMYK to RGB, through the ICC profile if one is given and fits.

    Args:
        samples: ``(H, W, 4)``; 255 is full ink.
        profile: an ICC profile for CMYK.

    Returns:
        ``(H, W, 3)``.
    """
    return np.asarray(_to_srgb(Image.fromarray(samples, "CMYK"), profile))


def lab_to_srgb(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert CIE L*a*b* to RGB.

    Args:
        samples: ``(H, W, 3)`` as TIFF stores it: L from 0 to 255, a and b as signed bytes.

    Returns:
        ``(H, W, 3)``.
    """
    return np.asarray(_to_srgb(Image.frombytes("LAB", samples.shape[1::-1], samples.tobytes())))


def _to_srgb(image: Image.Image, profile: bytes | None = None) -> Image.Image:
    source = (
        ImageCms.createProfile("LAB") if image.mode == "LAB" else profile or image.info.get("icc_profile")
    )
    if source is None:
        return image.convert("RGB")
    try:
        opened = ImageCms.ImageCmsProfile(BytesIO(source) if isinstance(source, bytes) else source)
        converted = ImageCms.profileToProfile(
            image, opened, ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC, "RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )  # fmt: skip
    except (ImageCms.PyCMSError, OSError):  # the profile is damaged, or for other colors
        converted = None
    return converted or image.convert("RGB")
