"""A trained network over several frames, in a file. It runs in PyTorch only."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from subpixel.engines.base import from_float
from subpixel.files import write_atomically
from subpixel.models.catalog import FRAMES_FORMAT
from subpixel.models.model import ModelMetadata
from subpixel.training.config import NetworkConfig


class UpscalesFrames(Protocol):
    """What a model needs of a network."""

    network: NetworkConfig

    def upscale_frames(self, frames: Iterator[Tensor]) -> Iterator[Tensor]:
        """Upscale a clip, frame after frame."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights by name."""

    def tables(self) -> dict[str, Any]:
        """Return what a file stores to build the network again."""


@dataclass(frozen=True)
class FramesModel:
    """A trained network. Call it with the luma planes of a clip, in order, to upscale each of them."""

    name: str
    network: UpscalesFrames
    metadata: ModelMetadata

    @property
    def scale(self) -> int:
        """The factor by which width and height grow."""
        return self.network.network.scale

    def __call__(self, planes: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        """Upscale the planes ``(H, W)`` uint8 of a clip in float32; it may look ahead."""
        frames = (torch.from_numpy(plane / np.float32(255))[None, None] for plane in planes)
        for phases in self.network.upscale_frames(frames):
            hr = nn.functional.pixel_shuffle(phases, self.scale)
            yield from_float(hr[0, 0].numpy(), np.dtype(np.uint8))

    def save(self, path: Path) -> None:
        """Write one ``.safetensors`` file, or raise `OutputError`. A failure leaves no partial file."""
        from safetensors.torch import save

        metadata = {
            "format": FRAMES_FORMAT,
            "name": self.name,
            "config": json.dumps(self.network.tables()),
            "facts": json.dumps(self.metadata.to_json()),
        }
        with write_atomically(path, overwrite=True) as temporary:
            temporary.write_bytes(save(self.network.state_dict(), metadata))
