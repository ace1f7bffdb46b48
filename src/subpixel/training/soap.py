"""SOAP (Vyas et al. 2024, arXiv 2409.11321): Adam in the eigenbasis of the gradients' covariance.

Pixels nearby are strongly correlated, which a method that scales each weight on its own cannot see;
``docs/training.md`` has the difference. General-purpose packages precondition each axis of a 4-D weight by
itself; here a convolution is what it is, a matrix of ``outputs`` x ``inputs * k * k``.
"""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor


class SOAP(torch.optim.Optimizer):
    """Adam whose moments live in a slowly turning eigenbasis; vectors (biases) get plain Adam.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        betas: decay of the first moment, and of the second moment and the covariances.
        eps: added to the root of the second moment.
        basis_every: steps between updates of the basis, each by one power iteration and a QR (their
            Algorithm 4).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        basis_every: int = 10,
    ) -> None:
        """Keep the settings; state is made at the first step."""
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "basis_every": basis_every})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every parameter that has a gradient; ``closure`` is not supported."""
        if closure is not None:
            raise ValueError("SOAP takes no closure")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return None

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        gradient = parameter.grad
        assert gradient is not None
        # A vector is left as a column without bases: plain Adam.
        turned = parameter.ndim > 1
        # Contiguous, like the bases below, because a checkpoint gives contiguous tensors back, and a matrix
        # product rounds differently with its operands' layout.
        gradient = (gradient.flatten(1) if turned else gradient[:, None]).contiguous()
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["mean"] = torch.zeros_like(gradient)
            state["square"] = torch.zeros_like(gradient)
            if turned:
                state["rows"] = gradient @ gradient.T
                state["columns"] = gradient.T @ gradient
                state["row_basis"] = torch.linalg.eigh(state["rows"])[1].contiguous()
                state["column_basis"] = torch.linalg.eigh(state["columns"])[1].contiguous()
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - beta1)
        mean = state["mean"]
        if turned:
            left, right = state["row_basis"], state["column_basis"]
            seen = left.T @ gradient @ right
            mean = left.T @ mean @ right
        else:
            seen = gradient
        state["square"].mul_(beta2).addcmul_(seen, seen, value=1 - beta2)
        update = mean / (state["square"].sqrt() + group["eps"])
        if turned:
            update = left @ update @ right.T
        correction = (1 - beta2 ** state["step"]) ** 0.5 / (1 - beta1 ** state["step"])
        parameter.add_(update.view_as(parameter), alpha=-group["lr"] * correction)
        if turned:
            state["rows"].lerp_(gradient @ gradient.T, 1 - beta2)
            state["columns"].lerp_(gradient.T @ gradient, 1 - beta2)
            if state["step"] % group["basis_every"] == 0:
                state["row_basis"] = torch.linalg.qr(state["rows"] @ left)[0].contiguous()
                state["column_basis"] = torch.linalg.qr(state["columns"] @ right)[0].contiguous()
