"""Time the networks of the paper and ours with PyTorch, each in the form that it has in the paper.

    python benchmarks/torch_times.py --datasets ../shared/datasets [--device cpu]

Runs on a CUDA GPU (the paper used a K2) or on a CPU. Input and result are 8-bit luma in the memory of the
device. "fp32" is IEEE arithmetic, without TF32. "fp16", only on a GPU, is the whole network in half
precision. All methods run in turn, and times are medians. Weights are random, which does not change the
times. Writes ``benchmarks/results/torch-cuda.json`` or ``torch-cpu.json``. Needs `pip install '.[train]'`.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Literal

import torch
from PIL import Image
from shared import TO_1080P, store
from torch import Tensor, nn

from subpixel.engines.tnrd import TNRD, Bicubic
from subpixel.evaluation.protocol import find_images
from subpixel.training.build import network_spec
from subpixel.training.config import NetworkConfig
from subpixel.training.network import DeconvolutionNetwork, Network

WIDTHS = {"8-16-16-16": (8, 16, 16, 16), "7 x 16": (16,) * 7, "7 x 32": (32,) * 7}
"""Widths of networks of our own family, by their names in the sweep in `docs/research`."""

KINDS: dict[str, Literal["srcnn-915", "srcnn-955", "espcn-pre-upsampling", "espcn"]] = {
    "srcnn-915": "srcnn-915",
    "srcnn-955": "srcnn-955",
    "espcn-enlarged-first": "espcn-pre-upsampling",
    "espcn": "espcn",
}
"""Values of `network.kind`, by the names under which results are stored."""

DTYPES = {"cuda": {"fp32": torch.float32, "fp16": torch.float16}, "cpu": {"fp32": torch.float32}}
"""The precisions that are measured, by type of device."""

Upscale = Callable[[Tensor], Tensor]


def methods(scale: int, dtype: torch.dtype, device: torch.device) -> dict[str, Upscale]:
    """Make the methods, functions from ``(1, 1, H, W)`` in [0, 1] to ``(1, 1, scale*H, scale*W)``."""

    def ready(network: nn.Module) -> nn.Module:
        return network.to(device, dtype, memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]

    def with_shuffle(network: nn.Module) -> Upscale:
        return lambda lr: nn.functional.pixel_shuffle(network(lr), scale)

    result: dict[str, Upscale] = {"bicubic": ready(Bicubic(scale))}
    for name, kind in KINDS.items():
        network = Network(network_spec(NetworkConfig(kind, scale, "tanh")))
        result[name] = with_shuffle(ready(network))
    result["espcn-deconvolution"] = with_shuffle(
        ready(DeconvolutionNetwork.like(Network(network_spec(NetworkConfig("espcn", scale, "tanh")))))
    )
    for name, widths in WIDTHS.items():
        config = NetworkConfig("stack", scale, "prelu", widths=widths, residual="nearest")
        result[name] = with_shuffle(ready(Network(network_spec(config))))
    if dtype == torch.float32:  # for luma from 0 to 255, its sums of filter responses exceed fp16
        result["tnrd"] = ready(TNRD(scale)).upscale  # type: ignore[assignment]
    return result


def milliseconds(upscale: Upscale, plane: Tensor, dtype: torch.dtype) -> float:
    """Time for one 8-bit plane, until the device is done."""

    def wait() -> None:
        if plane.is_cuda:
            torch.cuda.synchronize()

    wait()
    started = time.perf_counter()
    hr = upscale(plane.to(dtype) / 255)
    (hr * 255 + 0.5).clamp_(0, 255).to(torch.uint8)
    wait()
    return (time.perf_counter() - started) * 1000


@torch.no_grad()
def medians(
    scale: int, shapes: list[tuple[int, int]], rounds: int, dtype: torch.dtype, device: torch.device
) -> dict[str, float]:
    """Median time of each method for a plane, as the mean over the shapes."""
    planes = [torch.randint(0, 256, (1, 1, *shape), dtype=torch.uint8, device=device) for shape in shapes]
    of_scale = methods(scale, dtype, device)
    spent: dict[str, list[float]] = {name: [] for name in of_scale}
    for number in range(-3 if device.type == "cuda" else -1, rounds):
        for name, upscale in of_scale.items():
            total = sum(milliseconds(upscale, plane, dtype) for plane in planes)
            if number >= 0:  # the first rounds warm up
                spent[name].append(total / len(planes))
    return {name: round(median(values), 3) for name, values in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", type=Path, default=Path("../shared/datasets"))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA GPU was found; pass --device cpu to measure the CPU")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    sizes = [Image.open(path).size for path in find_images(options.datasets / "Set14")]
    set14 = [(height // 3, width // 3) for width, height in sizes]
    frames = [(f"1920x1080 x{scale}", scale, [shape]) for scale, shape in TO_1080P.items()]
    times = {}
    for called, dtype in DTYPES[device.type].items():
        times[called] = {
            column: medians(scale, shapes, options.rounds, dtype, device)
            for column, scale, shapes in (("Set14 x3", 3, set14), *frames)
        }
    where: dict[str, object] = (
        {"machine": torch.cuda.get_device_name()}
        if device.type == "cuda"
        else {"threads": torch.get_num_threads()}
    )
    stored = {**where, "torch": torch.__version__, "milliseconds": times}
    store(f"torch-{device.type}", stored)
    print(json.dumps(stored, indent=1))


if __name__ == "__main__":
    main()
