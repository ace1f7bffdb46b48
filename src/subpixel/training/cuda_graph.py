"""Training steps as CUDA graphs.

A step of a small network is hundreds of kernels of a few microseconds each, and Python needs longer than that
to launch one. So a step is captured once as a CUDA graph, and then replayed.
"""

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

Step = Callable[..., None]
"""A function of tensors or None that changes tensors in place."""

WARM_UP = 3
"""Steps that run without a graph before one is captured. Libraries choose their kernels in them."""


class CudaGraph:
    """Runs steps: directly on a CPU, as CUDA graphs on a GPU.

    A graph repeats exactly the kernels that were captured. So a step must not synchronize with the CPU, and
    from one call to the next only values of tensors may differ.
    """

    def __init__(self, device: torch.device) -> None:
        """Create an object without graphs."""
        self._device = device
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._runs: dict[Hashable, int] = {}
        self._captured: dict[Hashable, tuple[torch.cuda.CUDAGraph, list[Tensor | None]]] = {}

    def __call__(self, variant: Hashable, step: Step, *arguments: Tensor | None) -> None:
        """Run a step. Steps of the same ``variant`` and shapes of arguments must run the same kernels."""
        if self._stream is None:
            step(*arguments)
            return
        key = (variant, *(None if argument is None else argument.shape for argument in arguments))
        runs = self._runs[key] = self._runs.get(key, 0) + 1
        if runs <= WARM_UP:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(self._stream):
                step(*arguments)
            torch.cuda.current_stream(self._device).wait_stream(self._stream)
            return
        if key not in self._captured:
            inputs = [None if argument is None else torch.empty_like(argument) for argument in arguments]
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self._stream):
                step(*inputs)
            self._captured[key] = graph, inputs
        graph, inputs = self._captured[key]
        for slot, argument in zip(inputs, arguments, strict=True):
            if slot is not None and argument is not None:
                slot.copy_(argument)
        graph.replay()
