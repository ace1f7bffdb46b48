"""Measures the time of a training step by the form of the network, for a table of `docs/research`.

    python benchmarks/training_step.py [--rounds 15] [--threads 1]

All forms have the layers of ESPCN with tanh, a batch of 12 patches of 40x40 LR pixels, and plain gradient
descent. The last layer is a sub-pixel convolution or the equivalent transposed convolution, or all layers are
in HR space, after a bicubic upsampling. The forms are measured in turn. Writes
``benchmarks/results/training-step.json``. Needs `pip install '.[train]'`.
"""

import argparse
import statistics
import time

import torch
from shared import store

from subpixel.models.networks import espcn
from subpixel.training.initialization import initialize
from subpixel.training.network import DeconvolutionNetwork, Network

BATCH, SIDE = 12, 40


def step_ms(network: Network, lr: torch.Tensor, target: torch.Tensor) -> float:
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4)
    started = time.perf_counter()
    loss = (network(lr) - target).square().mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return (time.perf_counter() - started) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for scale in (2, 3, 4):
        generator = torch.Generator().manual_seed(0)
        networks: dict[str, Network] = {
            "sub-pixel": Network(espcn(scale)),
            "behind bicubic": Network(espcn(scale, upsampling="bicubic")),
        }
        for network in networks.values():
            initialize(network, "lecun", generator)
        networks["transposed"] = DeconvolutionNetwork.like(networks["sub-pixel"])
        lr = torch.rand(BATCH, 1, SIDE, SIDE, generator=generator)
        lr = lr.contiguous(memory_format=torch.channels_last)
        target = torch.rand(BATCH, scale**2, SIDE, SIDE, generator=generator)
        for network in networks.values():
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            step_ms(network, lr, target)
        times: dict[str, list[float]] = {name: [] for name in networks}
        for _ in range(options.rounds):
            for name, network in networks.items():
                times[name].append(step_ms(network, lr, target))
        median = {name: statistics.median(spent) for name, spent in times.items()}
        row = {
            "scale": scale,
            **{f"{name} ms": round(spent, 1) for name, spent in median.items()},
            "transposed / sub-pixel": round(median["transposed"] / median["sub-pixel"], 2),
            "behind bicubic / sub-pixel": round(median["behind bicubic"] / median["sub-pixel"], 2),
        }
        rows.append(row)
        print(row, flush=True)
    stored = {
        "threads": options.threads,
        "rounds": options.rounds,
        "batch": BATCH,
        "side_px": SIDE,
        "rows": rows,
    }
    store("training-step", stored)


if __name__ == "__main__":
    main()
