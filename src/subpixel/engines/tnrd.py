"""TNRD (Chen & Pock, arXiv 1508.02848): trained diffusion, with which the ESPCN paper compares.

It is not a stack of convolutions, so it has no `ModelSpec`, and the other engines cannot run it. It runs in
PyTorch.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from subpixel.engines.base import from_float
from subpixel.errors import ModelError
from subpixel.files import write_atomically
from subpixel.models.catalog import TNRD_FORMAT
from subpixel.models.file import open_tensors, short
from subpixel.models.model import ModelMetadata
from subpixel.ops.resize import bicubic_kernels, imresize

SIDE_PX, STAGES = 7, 5
"""Side of the filters, and number of diffusion steps."""

FILTERS = SIDE_PX**2 - 1
"""Filters of each stage."""

CENTERS, RANGE = 63, 310.0
"""Gaussians of each influence function, and range of their centers: filter responses to luma in 0..255."""

WIDTH = 2 * RANGE / (CENTERS - 1)
"""Standard deviation of the Gaussians, and distance between their centers."""

MAX_STAGES = 100
"""Most stages of a TNRD in a file."""

TABLE_STEPS = 8
"""Influence functions are tables, with this many steps between two centers and linear interpolation."""


class TNRD(nn.Module):
    """Bicubic upsampling, then five steps of diffusion with trained filters and influence functions.

    Each step is equation (8) of the paper, ``u - (sum_i k_i' * phi_i(k_i * u) + lambda A'(A u - f))``, with
    48 filters ``k`` of 7x7 pixels (sums of DCT atoms, with zero mean), the same filters rotated by 180
    degrees ``k'``, influence functions ``phi`` (sums of 63 Gaussians), bicubic downscaling ``A`` and its
    transpose ``A'``, and the LR image ``f``.
    """

    def __init__(self, scale: int, stages: int = STAGES, generator: torch.Generator | None = None) -> None:
        """Initialize the filters as random rotations of the DCT atoms, and the influence functions as 0."""
        super().__init__()
        self.scale, self.stages = scale, stages
        self.bicubic = Bicubic(scale)
        rotations = torch.linalg.qr(torch.randn(stages, FILTERS, FILTERS, generator=generator))[0]
        self.coefficients = nn.ParameterList(
            rotation.clone(memory_format=torch.contiguous_format) for rotation in rotations
        )
        """For each stage ``(filters, atoms)``. Only the direction of a row counts: filters are normalized."""
        self.influence = nn.ParameterList(torch.zeros(FILTERS, CENTERS) for _ in rotations)
        """For each stage ``(filters, centers)``: the heights of the Gaussians."""
        self.reaction = nn.Parameter(torch.full((stages,), 0.1))
        """``(stages,)``: lambda in units of ``scale**2``."""
        self.atoms: Tensor
        self.gaussians: Tensor
        self.downscaling: Tensor
        self.register_buffer("atoms", torch.tensor(dct_atoms(), dtype=torch.float32), persistent=False)
        positions = torch.linspace(-RANGE, RANGE, (CENTERS - 1) * TABLE_STEPS + 1)
        centers = torch.linspace(-RANGE, RANGE, CENTERS)[:, None]
        gaussians = torch.exp(-((positions - centers) ** 2) / (2 * WIDTH**2))
        self.register_buffer("gaussians", gaussians, persistent=False)
        self.register_buffer("downscaling", torch.tensor(downscaling_kernel(scale)), persistent=False)

    def filters(self, stage: int) -> Tensor:
        """Return the filters of a stage, normalized: ``(48, 49)``."""
        return nn.functional.normalize(self.coefficients[stage], dim=1) @ self.atoms

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale, and unshuffle the result: training compares all networks with unshuffled targets."""
        return nn.functional.pixel_unshuffle(self.upscale(lr), self.scale)

    def upscale(self, lr: Tensor) -> Tensor:
        """Upscale ``(N, 1, H, W)`` in [0, 1] to ``(N, 1, scale*H, scale*W)``."""
        small = lr * 255
        large: Tensor = self.bicubic(small)
        for stage in range(self.stages):
            # Expanded for bmm, because matmul would copy its arguments.
            filters = self.filters(stage).expand(len(large), -1, -1)
            padded = nn.functional.pad(large, (SIDE_PX // 2,) * 4, mode="replicate")
            responses = torch.bmm(filters, nn.functional.unfold(padded, SIDE_PX))
            influenced = influence(responses, self.influence[stage] @ self.gaussians)
            sides = (large.shape[2], large.shape[3])
            diffusion = nn.functional.fold(
                torch.bmm(filters.mT, influenced), sides, SIDE_PX, padding=SIDE_PX // 2
            )
            large = large - diffusion - self.reaction[stage] * self.residual(large, small)
        return large / 255

    def residual(self, large: Tensor, small: Tensor) -> Tensor:
        """Compute ``A'(A u - f) * scale**2``."""
        border = 2 * self.scale
        padded = nn.functional.pad(large, (border,) * 4, mode="replicate")
        error = nn.functional.conv2d(padded, self.downscaling, stride=self.scale) - small
        spread = nn.functional.conv_transpose2d(error, self.downscaling, stride=self.scale)
        height, width = large.shape[2:]
        return spread[:, :, border : border + height, border : border + width] * self.scale**2


class Bicubic(nn.Module):
    """`subpixel.ops.resize.imresize` of ``(N, channels, H, W)`` by an integer scale."""

    def __init__(self, scale: int) -> None:
        """Register the kernels as a buffer on the network's device: a CUDA graph cannot read from the CPU."""
        super().__init__()
        self.scale = scale
        self.kernels: Tensor
        kernels = torch.tensor(bicubic_kernels(scale), dtype=torch.float32)[:, None]
        self.register_buffer("kernels", kernels, persistent=False)

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale."""
        count, channels, height, width = lr.shape
        planes = nn.functional.pad(lr.reshape(-1, 1, height, width), (2, 2, 2, 2), mode="replicate")
        hr = nn.functional.pixel_shuffle(nn.functional.conv2d(planes, self.kernels), self.scale)
        return hr.reshape(count, channels, height * self.scale, width * self.scale)


@dataclass(frozen=True)
class TnrdModel:
    """A trained TNRD. Call it to upscale a luma plane, ``(H, W)`` uint8, to ``(scale*H, scale*W)``."""

    name: str
    network: TNRD
    metadata: ModelMetadata

    @property
    def scale(self) -> int:
        """The factor by which width and height grow."""
        return self.network.scale

    def __call__(self, plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Upscale a plane, in float32."""
        with torch.no_grad():
            hr = self.network.upscale(torch.from_numpy(plane / np.float32(255))[None, None])
        return from_float(hr[0, 0].numpy(), plane.dtype)

    def save(self, path: Path) -> None:
        """Write one ``.safetensors`` file, or raise `OutputError`. A failure leaves no partial file."""
        from safetensors.torch import save

        facts = json.dumps(self.metadata.to_json())
        metadata = {"format": TNRD_FORMAT, "name": self.name, "scale": str(self.scale), "facts": facts}
        with write_atomically(path, overwrite=True) as temporary:
            temporary.write_bytes(save(self.network.state_dict(), metadata))


def load_tnrd(path: Path) -> TnrdModel:
    """Read a file that `TnrdModel.save` wrote; `ModelError` names the file if it is not valid."""
    from safetensors import SafetensorError, safe_open

    with open_tensors(path):  # refuses files that would take `safe_open` a long time
        pass
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != TNRD_FORMAT:
                raise ModelError(
                    f"{path}: not a TNRD: its format is {metadata.get('format', 'not stated')!r}"
                )
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        scale = metadata["scale"]
        if scale not in map(str, range(1, 9)):
            raise ModelError(f"{path}: scale must be 1 to 8, not {short(scale)}")
        if not 1 <= (stages := tensors["reaction"].numel()) <= MAX_STAGES:
            raise ModelError(f"{path}: a TNRD has 1 to {MAX_STAGES} stages, not {stages}")
        network = TNRD(int(scale), stages)
        network.load_state_dict(tensors)
        return TnrdModel(metadata["name"], network, ModelMetadata.from_json(json.loads(metadata["facts"])))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such model file") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: not a readable TNRD ({error})") from error


def influence(responses: Tensor, table: Tensor) -> Tensor:
    """Apply an influence function to each channel of ``(N, C, pixels)``, by its table ``(C, positions)``.

    The positions are evenly spaced from -RANGE to RANGE. Outside of this range, a function is constant.
    """
    result: Tensor = _Interpolation.apply(responses, table)  # type: ignore[no-untyped-call]
    return result


class _Interpolation(torch.autograd.Function):
    """Linear interpolation in one table per channel, with gradients for the argument and the table."""

    @staticmethod
    def forward(context: Any, responses: Tensor, table: Tensor) -> Tensor:
        channels, size = table.shape
        position = (responses + RANGE) * ((size - 1) / (2 * RANGE))
        position = position.clamp(0, size - 1.001)
        floor = position.floor()
        fraction = position.sub_(floor)
        first = size * torch.arange(channels, device=floor.device).view(-1, 1)
        index = floor.long().add_(first)
        flat = table.flatten()
        below = flat.take(index)
        rise = flat.diff().take(index)
        context.save_for_backward(fraction, index, rise)
        context.shape = table.shape
        return torch.addcmul(below, fraction, rise)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,) = gradients
        fraction, index, rise = context.saved_tensors
        channels, size = context.shape
        entries, flat = channels * size, index.flatten()
        upper = (gradient * fraction).flatten()
        lower = gradient.flatten() - upper
        table = gradient.new_zeros(entries + 1)
        table[:entries] = _sum_by_index(lower, flat, entries)
        table[1:] += _sum_by_index(upper, flat, entries)
        return gradient * rise * ((size - 1) / (2 * RANGE)), table[:entries].view(channels, size)


def _sum_by_index(values: Tensor, index: Tensor, size: int) -> Tensor:
    """Sum the values that have the same index."""
    if values.device.type == "cpu":
        return torch.bincount(index, values, minlength=size)[
            :size
        ]  # on a GPU, bincount waits for the largest index
    return values.new_zeros(size).index_add_(0, index, values)


def dct_atoms() -> NDArray[np.float64]:
    """Return the two-dimensional DCT basis of 7x7 pixels without its mean: ``(48, 49)``, orthonormal."""
    steps = np.arange(SIDE_PX)
    basis = np.cos(np.pi * np.outer(steps, 2 * steps + 1) / (2 * SIDE_PX)) * math.sqrt(2 / SIDE_PX)
    basis[0] /= math.sqrt(2)
    return np.asarray(np.kron(basis, basis)[1:], np.float64)


def downscaling_kernel(scale: int) -> NDArray[np.float32]:
    """Return the weights of the HR pixels around one LR pixel in `imresize` by ``1 / scale``.

    ``(1, 1, 5 * scale, 5 * scale)``; the LR pixel covers the ``scale`` rows and columns in the middle.
    """
    side = 5 * scale
    impulses = (np.tile(impulse, (side, 1)) for impulse in np.eye(side))
    line = np.array([imresize(impulse, 1 / scale)[2, 2] for impulse in impulses])
    return np.outer(line, line).astype(np.float32)[None, None]
