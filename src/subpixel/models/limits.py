"""How large a network may be: at least ten times what ships, and so small that every engine ends.

A model file is data from anywhere. Without limits a file of a few kilobytes could describe a network that
takes hours to compile, or more memory than there is.
"""

from typing import TYPE_CHECKING

from subpixel.errors import ModelError
from subpixel.models.file import short

if TYPE_CHECKING:
    from subpixel.models.model import ModelSpec

MAX_LAYERS = 128
"""`best` has 10."""

MAX_CHANNELS = 1024
"""That a layer takes or gives; ESPCN has 64."""

MAX_KERNEL_PX = 99
"""Side of a kernel; SRCNN has 9."""

MAX_MACS = 40_000_000
"""Multiply-adds for one LR pixel; SRCNN 9-5-5 has 914,944 at x4 and 3,659,776 at x8."""

MAX_HALO_PX = 128
"""LR pixels that a result sees to each side; `best` has 10."""


def check_sizes(spec: "ModelSpec") -> None:
    """Raise `ModelError`, with the limit and the value, where layers are too many or too large."""
    layers = spec.layers
    if len(layers) > MAX_LAYERS:
        raise ModelError(f"{len(layers)} layers are more than the limit of {MAX_LAYERS}")
    if spec.channels > MAX_CHANNELS:
        raise ModelError(f"{short(spec.channels)} channels are more than the limit of {MAX_CHANNELS}")
    for index, layer in enumerate(layers):
        if layer.kernel > MAX_KERNEL_PX:
            px = short(layer.kernel)
            raise ModelError(
                f"layer {index}: a kernel of {px} px is larger than the limit of {MAX_KERNEL_PX}"
            )
        if (most := max(layer.inputs, layer.outputs)) > MAX_CHANNELS:
            raise ModelError(
                f"layer {index}: {short(most)} channels are more than the limit of {MAX_CHANNELS}"
            )


def check_cost(spec: "ModelSpec") -> None:
    """Likewise for what a pixel costs, and for how far it sees, of layers that fit each other."""
    if spec.macs_per_lr_pixel > MAX_MACS:
        raise ModelError(
            f"{spec.macs_per_lr_pixel:,} multiply-adds per LR pixel are more than the limit of {MAX_MACS:,}"
        )
    if spec.halo_px > MAX_HALO_PX:
        raise ModelError(f"a halo of {spec.halo_px} LR pixels is larger than the limit of {MAX_HALO_PX}")
