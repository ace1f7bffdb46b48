"""Steps of training on a GPU without the CPU in their way.

Networks as small as these give a GPU hundreds of kernels of a few microseconds a step, and Python takes
longer to launch each. So a step is recorded once, as a CUDA graph, and then replayed whole.
"""

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

Step = Callable[..., None]
"""Takes tensors or None, and changes tensors that are there before and after."""

WARM_UP = 3
"""Steps that are run as they are before one is recorded: libraries choose their kernels in them."""


class CudaGraph:
    """Runs steps: on a CPU as they are, on a GPU recorded at first and replayed from then on.

    A recorded step is exactly the kernels that were launched: it must wait for nothing, and nothing but the
    values of its arguments and of the tensors that it changes may differ from one time to the next.
    """

    def __init__(self, device: torch.device) -> None:
        """Nothing is recorded yet."""
        self._device = device
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._runs: dict[Hashable, int] = {}
        self._recorded: dict[Hashable, tuple[torch.cuda.CUDAGraph, list[Tensor | None]]] = {}

    def __call__(self, kind: Hashable, step: Step, *arguments: Tensor | None) -> None:
        """Do one step; steps of one ``kind``, whose arguments have the same shapes, are the same kernels."""
        if self._stream is None:
            step(*arguments)
            return
        key = (kind, *(None if argument is None else argument.shape for argument in arguments))
        runs = self._runs[key] = self._runs.get(key, 0) + 1
        if runs <= WARM_UP:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(self._stream):
                step(*arguments)
            torch.cuda.current_stream(self._device).wait_stream(self._stream)
            return
        if key not in self._recorded:
            inputs = [None if argument is None else torch.empty_like(argument) for argument in arguments]
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self._stream):
                step(*inputs)
            self._recorded[key] = graph, inputs
        graph, inputs = self._recorded[key]
        for place, argument in zip(inputs, arguments, strict=True):
            if place is not None and argument is not None:
                place.copy_(argument)
        graph.replay()
