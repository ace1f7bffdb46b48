"""TNRD, which ESPCN was compared with (Chen & Pock, arXiv 1508.02848): learned diffusion, run by PyTorch.

It is no stack of convolutions, so it has no `ModelSpec` and none of the engines runs it.
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

SIDE, STAGES = 7, 5
FILTERS = SIDE**2 - 1
CENTERS, RANGE = 63, 310.0
"""Radial basis functions of each influence function, spread over filter responses from -RANGE to RANGE, for
luma in levels of 255."""
WIDTH = 2 * RANGE / (CENTERS - 1)
"""Standard deviation of each, and the distance between two."""
MAX_STAGES = 100
"""Of a TNRD in a file."""
FINE = 8
"""An influence function is read off a table of so many entries for each center, linearly in between."""


class TNRD(nn.Module):
    """Five steps of diffusion with trained filters and influence functions, beginning from bicubic.

    Each step is equation (8) of the paper, ``u - (sum_i k_i' * phi_i(k_i * u) + lambda A'(A u - f))``: 48
    filters ``k`` of 7x7 pixels with zero mean, sums of DCT atoms; ``k'``, the same turned by 180 degrees;
    ``phi``, each a sum of 63 Gaussians; ``A``, bicubic reduction, with its transpose ``A'``; ``f``, the small
    picture.
    """

    def __init__(self, scale: int, stages: int = STAGES, generator: torch.Generator | None = None) -> None:
        """Filters are a random turn of the DCT's atoms, influence functions zero: so it begins as bicubic."""
        super().__init__()
        self.scale, self.stages = scale, stages
        self.bicubic = Bicubic(scale)
        turns = torch.linalg.qr(torch.randn(stages, FILTERS, FILTERS, generator=generator))[0]
        self.coefficients = nn.ParameterList(
            turn.clone(memory_format=torch.contiguous_format) for turn in turns
        )
        """Of each stage ``(filters, atoms)``: only the direction of each filter's coefficients counts."""
        self.influence = nn.ParameterList(torch.zeros(FILTERS, CENTERS) for _ in turns)
        """Of each stage ``(filters, centers)``: the heights of the Gaussians."""
        self.reaction = nn.Parameter(torch.full((stages,), 0.1))
        """``(stages,)``: lambda, times the square of the scale."""
        self.atoms: Tensor
        self.gaussians: Tensor
        self.reduction: Tensor
        self.register_buffer("atoms", torch.tensor(dct_atoms(), dtype=torch.float32), persistent=False)
        places = torch.linspace(-RANGE, RANGE, (CENTERS - 1) * FINE + 1)
        centers = torch.linspace(-RANGE, RANGE, CENTERS)[:, None]
        gaussians = torch.exp(-((places - centers) ** 2) / (2 * WIDTH**2))
        self.register_buffer("gaussians", gaussians, persistent=False)
        self.register_buffer("reduction", torch.tensor(reduction_kernel(scale)), persistent=False)

    def filters(self, stage: int) -> Tensor:
        """The filters of a stage, each of norm 1: ``(48, 49)``."""
        return nn.functional.normalize(self.coefficients[stage], dim=1) @ self.atoms

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge; the result is unshuffled, to meet the same targets as that of other networks."""
        return nn.functional.pixel_unshuffle(self.enlarge(lr), self.scale)

    def enlarge(self, lr: Tensor) -> Tensor:
        """From ``(N, 1, H, W)`` in [0, 1] to ``(N, 1, scale*H, scale*W)``."""
        small = lr * 255
        large: Tensor = self.bicubic(small)
        for stage in range(self.stages):
            # Expanded for bmm: a plain product would copy its arguments.
            filters = self.filters(stage).expand(len(large), -1, -1)
            padded = nn.functional.pad(large, (SIDE // 2,) * 4, mode="replicate")
            responses = torch.bmm(filters, nn.functional.unfold(padded, SIDE))
            pushed = influence(responses, self.influence[stage] @ self.gaussians)
            sides = (large.shape[2], large.shape[3])
            diffusion = nn.functional.fold(torch.bmm(filters.mT, pushed), sides, SIDE, padding=SIDE // 2)
            large = large - diffusion - self.reaction[stage] * self.residual(large, small)
        return large / 255

    def residual(self, large: Tensor, small: Tensor) -> Tensor:
        """``A'(A u - f)``, times the square of the scale."""
        beside = 2 * self.scale
        padded = nn.functional.pad(large, (beside,) * 4, mode="replicate")
        error = nn.functional.conv2d(padded, self.reduction, stride=self.scale) - small
        spread = nn.functional.conv_transpose2d(error, self.reduction, stride=self.scale)
        height, width = large.shape[2:]
        return spread[:, :, beside : beside + height, beside : beside + width] * self.scale**2


class Bicubic(nn.Module):
    """`resample.imresize` of ``(N, channels, H, W)`` by an integer factor."""

    def __init__(self, scale: int) -> None:
        """Keep the kernels where the network is: a step recorded on a GPU must not wait for the CPU's."""
        super().__init__()
        self.scale = scale
        self.kernels: Tensor
        kernels = torch.tensor(bicubic_kernels(scale), dtype=torch.float32)[:, None]
        self.register_buffer("kernels", kernels, persistent=False)

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge."""
        count, channels, height, width = lr.shape
        planes = nn.functional.pad(lr.reshape(-1, 1, height, width), (2, 2, 2, 2), mode="replicate")
        hr = nn.functional.pixel_shuffle(nn.functional.conv2d(planes, self.kernels), self.scale)
        return hr.reshape(count, channels, height * self.scale, width * self.scale)


@dataclass(frozen=True)
class TnrdModel:
    """A trained TNRD: called, it enlarges a luma plane, ``(H, W)`` uint8, to ``(scale*H, scale*W)``."""

    name: str
    network: TNRD
    metadata: ModelMetadata

    @property
    def scale(self) -> int:
        """How many times larger each side becomes."""
        return self.network.scale

    def __call__(self, plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Enlarge, in float32."""
        with torch.no_grad():
            hr = self.network.enlarge(torch.from_numpy(plane / np.float32(255))[None, None])
        return from_float(hr[0, 0].numpy(), plane.dtype)

    def save(self, path: Path) -> None:
        """Write it as one ``.safetensors`` file, whole or not at all; `OutputError` where that fails."""
        from safetensors.torch import save

        stored = json.dumps(self.metadata.to_json())
        metadata = {"format": TNRD_FORMAT, "name": self.name, "scale": str(self.scale), "facts": stored}
        with write_atomically(path, overwrite=True) as temporary:
            temporary.write_bytes(save(self.network.state_dict(), metadata))


def load_tnrd(path: Path) -> TnrdModel:
    """Read what `TnrdModel.save` wrote; `ModelError` names the file where it is something else."""
    from safetensors import SafetensorError, safe_open

    with open_tensors(path):  # refuses what safe_open would take long for
        pass
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != TNRD_FORMAT:
                raise ModelError(f"{path}: no TNRD: its format is {metadata.get('format', 'not stated')!r}")
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
    """Apply to each channel of ``(N, C, pixels)`` its function, given by its values ``(C, places)``.

    The places are evenly spread from -RANGE to RANGE; beyond, a function stays as it ends.
    """
    result: Tensor = _Interpolation.apply(responses, table)  # type: ignore[no-untyped-call]
    return result


class _Interpolation(torch.autograd.Function):
    """Linear interpolation in a table for each channel; both the argument and the table have gradients."""

    @staticmethod
    def forward(context: Any, responses: Tensor, table: Tensor) -> Tensor:
        channels, places = table.shape
        position = (responses + RANGE) * ((places - 1) / (2 * RANGE))
        position = position.clamp(0, places - 1.001)
        whole = position.floor()
        part = position.sub_(whole)
        first = places * torch.arange(channels, device=whole.device).view(-1, 1)
        index = whole.long().add_(first)
        flat = table.flatten()
        below = flat.take(index)
        rise = flat.diff().take(index)
        context.save_for_backward(part, index, rise)
        context.shape = table.shape
        return torch.addcmul(below, part, rise)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,) = gradients
        part, index, rise = context.saved_tensors
        channels, places = context.shape
        size, flat = channels * places, index.flatten()
        upper = (gradient * part).flatten()
        lower = gradient.flatten() - upper
        table = gradient.new_zeros(size + 1)
        table[:size] = _sums(lower, flat, size)
        table[1:] += _sums(upper, flat, size)
        return gradient * rise * ((places - 1) / (2 * RANGE)), table[:size].view(channels, places)


def _sums(values: Tensor, index: Tensor, size: int) -> Tensor:
    """The sum of those values that have each index."""
    if values.device.type == "cpu":
        return torch.bincount(index, values, minlength=size)[:size]  # a GPU would wait for the largest index
    return values.new_zeros(size).index_add_(0, index, values)


def dct_atoms() -> NDArray[np.float64]:
    """The two-dimensional DCT's basis of 7x7 pixels but for its mean: ``(48, 49)``, orthonormal."""
    steps = np.arange(SIDE)
    basis = np.cos(np.pi * np.outer(steps, 2 * steps + 1) / (2 * SIDE)) * math.sqrt(2 / SIDE)
    basis[0] /= math.sqrt(2)
    return np.asarray(np.kron(basis, basis)[1:], np.float64)


def reduction_kernel(scale: int) -> NDArray[np.float32]:
    """What `imresize` by ``1 / scale`` weighs the pixels around one of the small picture with.

    ``(1, 1, 5 * scale, 5 * scale)``; the middle ``scale`` rows and columns are those that it covers.
    """
    side = 5 * scale
    stripes = (np.tile(impulse, (side, 1)) for impulse in np.eye(side))
    line = np.array([imresize(stripe, 1 / scale)[2, 2] for stripe in stripes])
    return np.outer(line, line).astype(np.float32)[None, None]
