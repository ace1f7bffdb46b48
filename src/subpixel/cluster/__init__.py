"""Upscaling on several machines: `upscale` divides the work among the machines of a Ray cluster."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subpixel.cluster.upscale_files import upscale

__all__ = ["upscale"]


def __getattr__(name: str) -> Any:
    """Load `upscale` at its first use."""
    if name != "upscale":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from subpixel.cluster.upscale_files import upscale

    return upscale
