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

    Parameters of one shape move together, as one batch of matrices: networks have many small layers alike. A
    step needs nothing from the CPU, so that it can be recorded and replayed on a GPU; `turn` is apart from it
    because it can't.

    Args:
        params: parameters or groups of them.
        lr: learning rate; ``group["lr"]`` may be a tensor of no axes, on the parameters' device.
        betas: decay of the first moment, and of the second moment and the covariances.
        eps: added to the root of the second moment.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
    ) -> None:
        """Keep the settings; state is made at the first step."""
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every parameter; each must have a gradient. ``closure`` is not supported."""
        if closure is not None:
            raise ValueError("SOAP takes no closure")
        for group in self.param_groups:
            for parameters in _by_shape(group["params"]):
                self._update(parameters, group)
        return None

    @torch.no_grad()
    def turn(self) -> None:
        """Bring the bases up to date, by one power iteration and a QR (their Algorithm 4).

        To be called every few steps.
        """
        for state in self.state.values():
            for covariance, basis in (("rows", "row_basis"), ("columns", "column_basis")):
                if basis in state:
                    state[basis].copy_(torch.linalg.qr(state[covariance] @ state[basis])[0])

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        # A vector is left as a column without bases: plain Adam.
        turned = parameters[0].ndim > 1
        # Contiguous, like the bases below, because a checkpoint gives contiguous tensors back, and a matrix
        # product rounds differently with its operands' layout.
        gradient = torch.stack([g.flatten(1) if turned else g[:, None] for g in gradients]).contiguous()
        state = self.state[parameters[0]]  # of all of them
        if not state:
            state["step"] = torch.zeros((), device=gradient.device)
            state["mean"] = torch.zeros_like(gradient)
            state["square"] = torch.zeros_like(gradient)
            if turned:
                state["rows"] = gradient @ gradient.mT
                state["columns"] = gradient.mT @ gradient
                state["row_basis"] = torch.linalg.eigh(state["rows"])[1].contiguous()
                state["column_basis"] = torch.linalg.eigh(state["columns"])[1].contiguous()
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - beta1)
        mean = state["mean"]
        if turned:
            left, right = state["row_basis"], state["column_basis"]
            seen = left.mT @ gradient @ right
            mean = left.mT @ mean @ right
        else:
            seen = gradient
        state["square"].mul_(beta2).addcmul_(seen, seen, value=1 - beta2)
        update = mean / (state["square"].sqrt() + group["eps"])
        if turned:
            update = left @ update @ right.mT
        correction = (1 - beta2 ** state["step"]) ** 0.5 / (1 - beta1 ** state["step"])
        update = update * (group["lr"] * correction)
        for parameter, change in zip(parameters, update, strict=True):
            parameter.sub_(change.view_as(parameter))
        if turned:
            state["rows"].lerp_(gradient @ gradient.mT, 1 - beta2)
            state["columns"].lerp_(gradient.mT @ gradient, 1 - beta2)


def _by_shape(parameters: Iterable[Tensor]) -> list[list[Tensor]]:
    """Parameters that are alike, in the order in which their shapes come up."""
    alike: dict[torch.Size, list[Tensor]] = {}
    for parameter in parameters:
        alike.setdefault(parameter.shape, []).append(parameter)
    return list(alike.values())
