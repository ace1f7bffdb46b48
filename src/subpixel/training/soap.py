"""SOAP (Vyas et al. 2024, arXiv 2409.11321): Adam in the eigenbasis of the gradients' covariance.

Nearby pixels are strongly correlated, and Adam, which scales each weight by itself, cannot use that;
``docs/research/2026-11-26-training.md`` has the difference. General-purpose packages precondition each axis
of a 4-D weight separately; here a convolution is treated as the matrix that it is, ``outputs`` x
``inputs * k * k``.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor


class SOAP(torch.optim.Optimizer):
    """Adam with its moments in a slowly changing eigenbasis; vectors (biases) get plain Adam.

    Parameters of the same shape are updated as one batch of matrices, because networks have many small layers
    of one shape. A step does not synchronize with the CPU, so a CUDA graph can contain it; `update_bases` is
    a separate method because it cannot be captured.

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
        """Store the settings; the state is created at the first step."""
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})
        self._updates = torch.compile(_updates, dynamic=False) if compiled else _updates

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter; each must have a gradient. ``closure`` is not supported."""
        if closure is not None:
            raise ValueError("SOAP takes no closure")
        batches: list[list[Tensor]] = []
        matrices: list[_Matrices] = []
        for group in self.param_groups:
            for parameters in _by_shape(group["params"]):
                gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
                state = self.state[parameters[0]]  # shared by the batch
                if not state:
                    _begin(state, _stacked(gradients), rotated=parameters[0].ndim > 1)
                batches.append(parameters)
                matrices.append(_Matrices(gradients, state, group["lr"], group["betas"], group["eps"]))
        for parameters, update in zip(batches, self._updates(matrices), strict=True):
            changes = [change.view_as(one) for one, change in zip(parameters, update, strict=True)]
            torch._foreach_sub_(parameters, changes)
        return None

    @torch.no_grad()
    def update_bases(self) -> None:
        """Update the eigenbases, by one power iteration and a QR decomposition (Algorithm 4 of the paper).

        Call it every few steps.
        """
        for state in self.state.values():
            for covariance, basis in (("rows", "row_basis"), ("columns", "column_basis")):
                if basis in state:
                    state[basis].copy_(_next_basis(state[covariance], state[basis]))


class _Matrices(NamedTuple):
    """The parameters of one shape: their gradients, state and settings."""

    gradients: list[Tensor]
    state: dict[str, Tensor]
    rate: float | Tensor
    betas: tuple[float, float]
    eps: float


def _stacked(gradients: list[Tensor]) -> Tensor:
    """Stack gradients as a batch of matrices ``(N, rows, columns)``; a vector becomes a column."""
    # Contiguous, like the bases: tensors from a checkpoint are contiguous, and the rounding of a matrix
    # product depends on the layout of its operands. So a resumed run gives the same weights.
    return torch.stack([g.flatten(1) if g.ndim > 1 else g[:, None] for g in gradients]).contiguous()


def _begin(state: dict[str, Tensor], gradient: Tensor, *, rotated: bool) -> None:
    """Initialize a batch's state: zero moments and, unless it is of vectors, the first gradient's bases."""
    state["step"] = torch.zeros((), device=gradient.device)
    state["mean"] = torch.zeros_like(gradient)
    state["square"] = torch.zeros_like(gradient)
    if rotated:
        state["rows"] = gradient @ gradient.mT
        state["columns"] = gradient.mT @ gradient
        state["row_basis"] = torch.linalg.eigh(state["rows"])[1].contiguous()
        state["column_basis"] = torch.linalg.eigh(state["columns"])[1].contiguous()


def _next_basis(covariance: Tensor, basis: Tensor) -> Tensor:
    """Return the Q of the QR decomposition of the product, up to the signs of its columns."""
    if covariance.is_cuda:
        return orthonormal_by_cholesky(covariance.double() @ basis.double(), fallback=basis).float()
    result: Tensor = torch.linalg.qr(covariance @ basis)[0]
    return result


def orthonormal_by_cholesky(columns: Tensor, *, fallback: Tensor) -> Tensor:
    """Make the columns of each matrix of a batch orthonormal, in order, as a QR decomposition does.

    All matrices are processed at once, where a GPU's QR processes them one after another. This is CholeskyQR
    applied twice (see Fukaya et al. 2020, arXiv 1809.11085), with columns normalized first.

    Args:
        columns: ``(N, rows, columns)``, float64.
        fallback: the same shape; replaces the result for matrices whose columns are too nearly dependent.
    """
    result, identity = columns, torch.eye(columns.shape[-1], dtype=columns.dtype, device=columns.device)
    for _ in range(2):
        result = result / result.norm(dim=-2, keepdim=True)
        factor = torch.linalg.cholesky_ex(result.mT @ result + 1e-13 * identity)[0]
        result = torch.linalg.solve_triangular(factor.mT, result, upper=True, left=False)
    error = (result.mT @ result - identity).abs().amax((-2, -1), keepdim=True)
    return torch.where(error < 1e-3, result, fallback.to(result.dtype))


def _updates(matrices: list[_Matrices]) -> list[Tensor]:
    """Update the states from the gradients; return what to subtract from the parameters, as `_stacked`."""
    return [_update(one) for one in matrices]


def _update(one: _Matrices) -> Tensor:
    gradients, state, rate, (beta1, beta2), eps = one
    gradient = _stacked(gradients)
    state["step"] += 1
    state["mean"].lerp_(gradient, 1 - beta1)
    mean, projected = state["mean"], gradient
    rotated = "rows" in state
    if rotated:
        left, right = state["row_basis"], state["column_basis"]
        projected = left.mT @ gradient @ right
        mean = left.mT @ mean @ right
    state["square"].mul_(beta2).addcmul_(projected, projected, value=1 - beta2)
    update = mean / (state["square"].sqrt() + eps)
    if rotated:
        update = left @ update @ right.mT
        state["rows"].lerp_(gradient @ gradient.mT, 1 - beta2)
        state["columns"].lerp_(gradient.mT @ gradient, 1 - beta2)
    correction = (1 - beta2 ** state["step"]) ** 0.5 / (1 - beta1 ** state["step"])
    return update * (rate * correction)


def _by_shape(parameters: Iterable[Tensor]) -> list[list[Tensor]]:
    """Group parameters by shape, in the order in which the shapes first occur."""
    groups: dict[torch.Size, list[Tensor]] = {}
    for parameter in parameters:
        groups.setdefault(parameter.shape, []).append(parameter)
    return list(groups.values())
