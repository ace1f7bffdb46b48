"""How long the paper's networks and ours take by PyTorch, each in the form that it has in the paper.

    python benchmarks/torch_times.py --datasets ../shared/datasets [--device cpu]

On a CUDA GPU, where the paper has its times from a K2, or on a CPU. PyTorch runs every network on luma that
lies in the device's memory as 8 bits, and leaves the enlarged luma there as 8 bits. "fp32" is IEEE arithmetic
(no TF32); "fp16", on a GPU alone, is the whole network in half precision. Methods take turns; times are
medians. Weights are random: they do not change how long it takes. Writes
``benchmarks/results/torch-cuda.json`` or ``torch-cpu.json``. Needs `pip install '.[train]'`.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from PIL import Image
from shared import TO_1080P, store
from torch import Tensor, nn

from subpixel.engines.tnrd import TNRD, Bicubic
from subpixel.evaluation.protocol import pictures
from subpixel.training.config import NetworkConfig
from subpixel.training.loop import describe
from subpixel.training.network import DeconvolutionNetwork, Network

WIDTHS = {"8-16-16-16": (8, 16, 16, 16), "7 x 16": (16,) * 7, "7 x 32": (32,) * 7}
"""Shapes of our own family, as the sweep in `docs/research` calls them."""

DTYPES = {"cuda": {"fp32": torch.float32, "fp16": torch.float16}, "cpu": {"fp32": torch.float32}}
"""Measured on each kind of device."""

Enlarge = Callable[[Tensor], Tensor]


def methods(scale: int, dtype: torch.dtype, device: torch.device) -> dict[str, Enlarge]:
    """From ``(1, 1, H, W)`` in [0, 1] to the same in HR."""

    def ready(network: nn.Module) -> nn.Module:
        return network.to(device, dtype, memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]

    def shuffled(network: nn.Module) -> Enlarge:
        return lambda lr: nn.functional.pixel_shuffle(network(lr), scale)

    result: dict[str, Enlarge] = {"bicubic": ready(Bicubic(scale))}
    for kind in ("srcnn-915", "srcnn-955", "espcn-enlarged-first", "espcn"):
        network = Network(describe(NetworkConfig(kind, scale, "tanh")))
        result[kind] = shuffled(ready(network))
    result["espcn-deconvolution"] = shuffled(
        ready(DeconvolutionNetwork.like(Network(describe(NetworkConfig("espcn", scale, "tanh")))))
    )
    for name, widths in WIDTHS.items():
        config = NetworkConfig("stack", scale, "prelu", widths=widths, residual="nearest")
        result[name] = shuffled(ready(Network(describe(config))))
    if dtype == torch.float32:  # its sums over filter responses in levels of 255 are beyond fp16
        result["tnrd"] = ready(TNRD(scale)).enlarge  # type: ignore[assignment]
    return result


def milliseconds(enlarge: Enlarge, plane: Tensor, dtype: torch.dtype) -> float:
    """For one 8-bit plane, until the device is done."""

    def wait() -> None:
        if plane.is_cuda:
            torch.cuda.synchronize()

    wait()
    started = time.perf_counter()
    hr = enlarge(plane.to(dtype) / 255)
    (hr * 255 + 0.5).clamp_(0, 255).to(torch.uint8)
    wait()
    return (time.perf_counter() - started) * 1000


@torch.no_grad()
def medians(
    scale: int, shapes: list[tuple[int, int]], rounds: int, dtype: torch.dtype, device: torch.device
) -> dict[str, float]:
    """Of each method, for a plane of each shape, on average over the shapes."""
    planes = [torch.randint(0, 256, (1, 1, *shape), dtype=torch.uint8, device=device) for shape in shapes]
    of_scale = methods(scale, dtype, device)
    spent: dict[str, list[float]] = {name: [] for name in of_scale}
    for turn in range(-3 if device.type == "cuda" else -1, rounds):
        for name, enlarge in of_scale.items():
            total = sum(milliseconds(enlarge, plane, dtype) for plane in planes)
            if turn >= 0:
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
        raise SystemExit("no CUDA GPU here; --device cpu measures the CPU")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    sizes = [Image.open(path).size for path in pictures(options.datasets / "Set14")]
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
