"""SOAP (Vyas et al. 2024, arXiv 2409.11321): Adam in the eigenbasis of the gradients' covariance.

Pixels nearby are strongly correlated, which a method that scales each weight on its own cannot see;
``docs/research/2026-11-26-training.md`` has the difference. General-purpose packages precondition each axis
of a 4-D weight by itself; here a convolution is what it is, a matrix of ``outputs`` x ``inputs * k * k``.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, overload

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
        compiled: fuse a step's kernels by `torch.compile`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        *,
        compiled: bool = False,
    ) -> None:
        """Keep the settings; state is made at the first step."""
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})
        self._updates = torch.compile(_updates, dynamic=False) if compiled else _updates

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every parameter; each must have a gradient. ``closure`` is not supported."""
        if closure is not None:
            raise ValueError("SOAP takes no closure")
        moving: list[list[Tensor]] = []
        matrices: list[_Matrices] = []
        for group in self.param_groups:
            for parameters in _by_shape(group["params"]):
                gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
                state = self.state[parameters[0]]  # of all of them
                if not state:
                    _begin(state, _stacked(gradients), turned=parameters[0].ndim > 1)
                moving.append(parameters)
                matrices.append(_Matrices(gradients, state, group["lr"], group["betas"], group["eps"]))
        for parameters, update in zip(moving, self._updates(matrices), strict=True):
            changes = [change.view_as(one) for one, change in zip(parameters, update, strict=True)]
            torch._foreach_sub_(parameters, changes)
        return None

    @torch.no_grad()
    def turn(self) -> None:
        """Bring the bases up to date, by one power iteration and a QR (their Algorithm 4).

        To be called every few steps.
        """
        for state in self.state.values():
            for covariance, basis in (("rows", "row_basis"), ("columns", "column_basis")):
                if basis in state:
                    state[basis].copy_(_next_basis(state[covariance], state[basis]))


class _Matrices(NamedTuple):
    """Parameters of one shape, and how they are moved."""

    gradients: list[Tensor]
    state: dict[str, Tensor]
    rate: float | Tensor
    betas: tuple[float, float]
    eps: float


def _stacked(gradients: list[Tensor]) -> Tensor:
    """A matrix for each, one upon the other; a vector is a column."""
    # Contiguous, like the bases, because a checkpoint gives contiguous tensors back, and a matrix product
    # rounds differently with its operands' layout.
    return torch.stack([g.flatten(1) if g.ndim > 1 else g[:, None] for g in gradients]).contiguous()


def _begin(state: dict[str, Tensor], gradient: Tensor, *, turned: bool) -> None:
    """Moments of nothing, and the first gradient's bases; vectors have none: they get plain Adam."""
    state["step"] = torch.zeros((), device=gradient.device)
    state["mean"] = torch.zeros_like(gradient)
    state["square"] = torch.zeros_like(gradient)
    if turned:
        state["rows"] = gradient @ gradient.mT
        state["columns"] = gradient.mT @ gradient
        state["row_basis"] = torch.linalg.eigh(state["rows"])[1].contiguous()
        state["column_basis"] = torch.linalg.eigh(state["columns"])[1].contiguous()


def _next_basis(covariance: Tensor, basis: Tensor) -> Tensor:
    """The columns of their product made orthonormal, in order: the Q of its QR, up to the columns' signs."""
    if covariance.is_cuda:
        return orthonormal_by_cholesky(covariance.double() @ basis.double(), instead=basis).float()
    result: Tensor = torch.linalg.qr(covariance @ basis)[0]
    return result


def orthonormal_by_cholesky(columns: Tensor, *, instead: Tensor) -> Tensor:
    """Columns of double precision made orthonormal, in order, all matrices of a batch at once.

    A GPU's QR takes them one after another. This is CholeskyQR, twice (see Fukaya et al. 2020, arXiv
    1809.11085), of columns brought to length 1. A matrix whose columns are too nearly dependent for it
    becomes ``instead``.
    """
    result, one = columns, torch.eye(columns.shape[-1], dtype=columns.dtype, device=columns.device)
    for _ in range(2):
        result = result / result.norm(dim=-2, keepdim=True)
        factor = torch.linalg.cholesky_ex(result.mT @ result + 1e-13 * one)[0]
        result = torch.linalg.solve_triangular(factor.mT, result, upper=True, left=False)
    off = (result.mT @ result - one).abs().amax((-2, -1), keepdim=True)
    return torch.where(off < 1e-3, result, instead.to(result.dtype))


def _updates(matrices: list[_Matrices]) -> list[Tensor]:
    """What is to be taken off parameters, like `_stacked` gradients; their states follow those."""
    return [_update(one) for one in matrices]


def _update(one: _Matrices) -> Tensor:
    gradients, state, rate, (beta1, beta2), eps = one
    gradient = _stacked(gradients)
    state["step"] += 1
    state["mean"].lerp_(gradient, 1 - beta1)
    mean, seen = state["mean"], gradient
    turned = "rows" in state
    if turned:
        left, right = state["row_basis"], state["column_basis"]
        seen = left.mT @ gradient @ right
        mean = left.mT @ mean @ right
    state["square"].mul_(beta2).addcmul_(seen, seen, value=1 - beta2)
    update = mean / (state["square"].sqrt() + eps)
    if turned:
        update = left @ update @ right.mT
        state["rows"].lerp_(gradient @ gradient.mT, 1 - beta2)
        state["columns"].lerp_(gradient.mT @ gradient, 1 - beta2)
    correction = (1 - beta2 ** state["step"]) ** 0.5 / (1 - beta1 ** state["step"])
    return update * (rate * correction)


def _by_shape(parameters: Iterable[Tensor]) -> list[list[Tensor]]:
    """Parameters that are alike, in the order in which their shapes come up."""
    alike: dict[torch.Size, list[Tensor]] = {}
    for parameter in parameters:
        alike.setdefault(parameter.shape, []).append(parameter)
    return list(alike.values())
