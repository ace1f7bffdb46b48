"""Still pictures: read, enlarge, write."""

from subpixel.images.upscale import Report, upscale_image

__all__ = ["Report", "upscale_image"]
