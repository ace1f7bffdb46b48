"""The periodic shuffling operator PS, and the equivalence of sub-pixel and transposed convolutions.

Nine channels of one LR pixel become a 3 x 3 block of HR pixels:

>>> import numpy as np
>>> pixel_shuffle(np.arange(9).reshape(9, 1, 1), 3)
array([[[0, 1, 2],
        [3, 4, 5],
        [6, 7, 8]]])

Nine LR filters of 3 x 3 taps equal one kernel of a transposed convolution with 9 x 9 taps:

>>> transposed_kernel(np.zeros((9, 32, 3, 3)), 3).shape
(1, 32, 9, 9)

In this module, r is the scale, ``(h, w)`` an LR pixel, ``(i, j)`` the row and column of an HR pixel in its
r x r block (its *phase*), and c a color. HR pixel ``(r*h + i, r*w + j)`` of color c comes from LR pixel
``(h, w)``, and the order of the ``C*r*r`` channels determines its channel:

========= =================== ========================================================================
order     channel             used by
========= =================== ========================================================================
``paper`` ``C*r*j + C*i + c`` equation (4) of ESPCN as printed (arXiv 1609.05158)
``dcr``   ``C*r*i + C*j + c`` TensorFlow's ``depth_to_space``, ONNX ``DepthToSpace(mode="DCR")``
``crd``   ``c*r*r + r*i + j`` PyTorch's ``pixel_shuffle``, ONNX ``mode="CRD"``, Subpixel's model files
========= =================== ========================================================================

The paper indexes its ``H x W x C`` arrays as ``[x, y, c]``, so x counts rows. In equation (4), ``mod(y, r)``
is the slower digit, so the channels fill each block **column by column**. If x is read as the horizontal
coordinate, the same equation gives ``dcr``. The two differ by a transposition of the r x r block, even for a
single color. All orders can express the same networks, with the filters of the last layer permuted.
"""

from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

Order = Literal["paper", "dcr", "crd"]
"""The order of the ``C*r*r`` channels of an LR pixel; see the table above."""

_DIGITS: dict[Order, str] = {"paper": "jic", "dcr": "ijc", "crd": "cij"}
"""The digits of a channel's index, slowest first."""

_Scalar = TypeVar("_Scalar", bound=np.generic)


def periodic_shuffle(tensor: NDArray[_Scalar], scale: int, order: Order = "paper") -> NDArray[_Scalar]:
    """Arrange the channels of every LR pixel as a block of HR pixels: PS, equation (4) of ESPCN.

    >>> pixel = np.array(["a", "b", "c", "d"]).reshape(1, 1, 4)
    >>> periodic_shuffle(pixel, 2)[:, :, 0]
    array([['a', 'c'],
           ['b', 'd']], dtype='<U1')
    >>> periodic_shuffle(pixel, 2, order="dcr")[:, :, 0]
    array([['a', 'b'],
           ['c', 'd']], dtype='<U1')
    >>> periodic_shuffle(np.zeros((17, 20, 27)), 3).shape  # three colors
    (51, 60, 3)

    Args:
        tensor: ``(..., H, W, C*r*r)``, any dtype: the paper's layout, channels last.
        scale: r, at least 1.
        order: of the channels. With ``"paper"``, as printed,
            ``PS(T)[x, y, c] = T[x // r, y // r, C*r*(y % r) + C*(x % r) + c]``.

    Returns:
        ``(..., r*H, r*W, C)``, the same values in another arrangement; a view if possible (``scale=1``).

    Raises:
        ValueError: the shape does not fit the scale, or the order is unknown.
    """
    _check_axes(tensor, 3)
    *batch, height, width, channels = tensor.shape
    sizes = _digit_sizes(_colors(channels, scale), scale, order)
    blocks = tensor.reshape(*batch, height, width, *sizes)
    pixels = _rearrange(blocks, f"hw{_DIGITS[order]}", "hiwjc")
    return pixels.reshape(*batch, height * scale, width * scale, channels // scale**2)


def periodic_unshuffle(image: NDArray[_Scalar], scale: int, order: Order = "paper") -> NDArray[_Scalar]:
    """Gather every block of HR pixels into the channels of one LR pixel: the inverse of `periodic_shuffle`.

    >>> periodic_unshuffle(np.array([["a", "c"], ["b", "d"]])[:, :, None], 2)
    array([[['a', 'b', 'c', 'd']]], dtype='<U1')

    Args:
        image: ``(..., r*H, r*W, C)``, any dtype.
        scale: r, at least 1.
        order: of the channels in the result.

    Returns:
        ``(..., H, W, C*r*r)``. A view if possible.

    Raises:
        ValueError: the sides are not multiples of the scale, or the order is unknown.
    """
    _check_axes(image, 3)
    *batch, height, width, colors = image.shape
    height, width = _lr_side(height, scale), _lr_side(width, scale)
    _digit_sizes(colors, scale, order)
    pixels = image.reshape(*batch, height, scale, width, scale, colors)
    blocks = _rearrange(pixels, "hiwjc", f"hw{_DIGITS[order]}")
    return blocks.reshape(*batch, height, width, colors * scale**2)


def pixel_shuffle(tensor: NDArray[_Scalar], scale: int) -> NDArray[_Scalar]:
    """Apply PS to channels first, in order ``crd``, like PyTorch's ``pixel_shuffle``.

    >>> pixel_shuffle(np.array(["a", "b", "c", "d"]).reshape(4, 1, 1), 2)
    array([[['a', 'b'],
            ['c', 'd']]], dtype='<U1')

    Args:
        tensor: ``(..., C*r*r, H, W)``, any dtype.
        scale: r, at least 1.

    Returns:
        ``(..., C, r*H, r*W)``. A view if possible.

    Raises:
        ValueError: the shape does not fit the scale.
    """
    _check_axes(tensor, 3)
    *batch, channels, height, width = tensor.shape
    colors = _colors(channels, scale)
    blocks = tensor.reshape(*batch, colors, scale, scale, height, width)
    pixels = _rearrange(blocks, "cijhw", "chiwj")
    return pixels.reshape(*batch, colors, height * scale, width * scale)


def pixel_unshuffle(image: NDArray[_Scalar], scale: int) -> NDArray[_Scalar]:
    """Undo `pixel_shuffle`: return the values before a network's shuffle whose result is ``image``.

    >>> pixel_unshuffle(np.array([[["a", "b"], ["c", "d"]]]), 2)[:, 0, 0]
    array(['a', 'b', 'c', 'd'], dtype='<U1')

    Args:
        image: ``(..., C, r*H, r*W)``, any dtype.
        scale: r, at least 1.

    Returns:
        ``(..., C*r*r, H, W)``. A view if possible.

    Raises:
        ValueError: the sides are not multiples of the scale.
    """
    _check_axes(image, 3)
    *batch, colors, height, width = image.shape
    height, width = _lr_side(height, scale), _lr_side(width, scale)
    pixels = image.reshape(*batch, colors, height, scale, width, scale)
    blocks = _rearrange(pixels, "chiwj", "cijhw")
    return blocks.reshape(*batch, colors * scale**2, height, width)


def channel_permutation(scale: int, colors: int, source: Order, target: Order) -> NDArray[np.intp]:
    """Return, for each channel in order ``target``, its index in order ``source``.

    >>> channel_permutation(2, 1, "paper", "crd")     # rows and columns are swapped
    array([0, 2, 1, 3])
    >>> channel_permutation(2, 3, "dcr", "crd")       # color: from the fastest digit to the slowest
    array([ 0,  3,  6,  9,  1,  4,  7, 10,  2,  5,  8, 11])

    Index the last layer's filters and biases, or the channels of a tensor, with it:

    >>> to_crd = channel_permutation(2, 3, "paper", "crd")
    >>> paper_weights, paper_bias = np.zeros((12, 32, 3, 3)), np.zeros(12)
    >>> crd_weights, crd_bias = paper_weights[to_crd], paper_bias[to_crd]

    Args:
        scale: r, at least 1.
        colors: C, at least 1.
        source: the order of the existing channels.
        target: the order of the result.

    Returns:
        ``(C*r*r,)``, a permutation p with ``in_target = in_source[p]``. The inverse has source and target
        swapped.

    Raises:
        ValueError: a number below 1, or an unknown order.
    """
    if colors < 1:
        raise ValueError(f"colors must be at least 1, not {colors}")
    _digit_sizes(colors, scale, target)
    channels = np.arange(colors * scale**2, dtype=np.intp).reshape(_digit_sizes(colors, scale, source))
    return _rearrange(channels, _DIGITS[source], _DIGITS[target]).ravel()


def transposed_kernel(weights: NDArray[_Scalar], scale: int, size: int | None = None) -> NDArray[_Scalar]:
    """Merge a sub-pixel convolution's LR filters into the kernel of the equal transposed convolution.

    >>> weights = np.arange(16).reshape(4, 1, 2, 2)       # filters 0..3, 4..7, 8..11 and 12..15
    >>> transposed_kernel(weights, 2)[0, 0]
    array([[ 3,  7,  2,  6],
           [11, 15, 10, 14],
           [ 1,  5,  0,  4],
           [ 9, 13,  8, 12]])

    For phase ``(i, j)`` and LR tap ``(u, v)``::

        kernel[o, n, r*(k-1-u) + i, r*(k-1-v) + j] == weights[o*r*r + r*i + j, n, u, v]

    The blocks are reversed, the phases in a block are not: a network's convolution is a correlation, and the
    transposed convolution is its adjoint. Both layers compute the same values, including the borders. In
    PyTorch, for every LR padding ``0 <= p <= k - 1``::

        pixel_shuffle(conv2d(x, weights, padding=p), r)
        == conv_transpose2d(x, kernel.swapaxes(0, 1), stride=r, padding=r * (k - 1 - p))

    (PyTorch's transposed kernels are ``(inputs, outputs, ...)``.) A transposed convolution has one bias per
    output, a sub-pixel convolution one per phase, so the biases of all phases of an output must be equal.

    Args:
        weights: ``(o*r*r, i, k, k)``, any dtype, in order ``crd``.
        scale: r, at least 1.
        size: side of the kernel, above ``(k-1)*r``, by default ``k*r``. The taps outside of it must be zero,
            as in the result of `subpixel_weights`.

    Returns:
        ``(o, i, size, size)``, a new array; the inverse of `subpixel_weights`.

    Raises:
        ValueError: the shape does not fit the scale, or ``size`` would cut off a tap that is not zero.
    """
    _check_kernel(weights)
    channels, inputs, k, _ = weights.shape
    outputs = _colors(channels, scale)
    size = k * scale if size is None else size
    if not (k - 1) * scale < size <= k * scale:
        raise ValueError(
            f"LR filters of side {k} at scale {scale} make kernels of side "
            f"{(k - 1) * scale + 1} to {k * scale}, not {size}"
        )
    phases = weights.reshape(outputs, scale, scale, inputs, k, k)[..., ::-1, ::-1]
    taps = _rearrange(phases, "oijnuv", "onuivj")
    kernel = taps.reshape(outputs, inputs, k * scale, k * scale)
    if kernel[:, :, size:].any() or kernel[:, :, :, size:].any():
        raise ValueError(f"a kernel of side {size} would lose taps that are not zero")
    return kernel[:, :, :size, :size].copy()


def subpixel_weights(kernel: NDArray[_Scalar], scale: int) -> NDArray[_Scalar]:
    """Split the kernel of a transposed convolution into the LR filters of the equal sub-pixel convolution.

    Taps at a distance of r form one LR filter, in reverse order:

    >>> kernel = np.arange(16).reshape(1, 1, 4, 4)
    >>> subpixel_weights(kernel, 2)[0, 0]                 # of phase (0, 0): taps 0, 2, 8 and 10
    array([[10,  8],
           [ 2,  0]])

    A side that is not a multiple of r is padded with zeros at its end, to ``k = ceil(size / r)`` LR taps.
    `transposed_kernel` with the original ``size`` removes them.

    >>> subpixel_weights(np.ones((1, 32, 5, 5)), 3).shape
    (9, 32, 2, 2)

    For every padding P of the transposed convolution, pad the LR image by ``k - 1`` on all sides, convolve,
    shuffle, and crop. In PyTorch::

        whole = pixel_shuffle(conv2d(x, weights, padding=k - 1), r)
        conv_transpose2d(x, kernel.swapaxes(0, 1), stride=r, padding=P)
        == whole[..., P : P + (H-1)*r + size - 2*P, P : P + (W-1)*r + size - 2*P]

    With an output padding, the crop ends that much later; past the end of ``whole``, PyTorch's result is
    zero. If ``size == k*r`` and P is a multiple of r, up to ``r*(k - 1)``, the LR padding ``k - 1 - P // r``
    replaces the crop.

    Args:
        kernel: ``(o, i, size, size)``, any dtype that has a zero.
        scale: r, the stride of the transposed convolution, at least 1.

    Returns:
        ``(o*r*r, i, k, k)`` in order ``crd``, a new array.

    Raises:
        ValueError: not a stack of square kernels, or a scale below 1.
    """
    _check_kernel(kernel)
    _check_scale(scale)
    outputs, inputs, size, _ = kernel.shape
    k = -(-size // scale)
    padded = np.zeros_like(kernel, shape=(outputs, inputs, k * scale, k * scale))
    padded[:, :, :size, :size] = kernel
    taps = padded.reshape(outputs, inputs, k, scale, k, scale)
    phases = _rearrange(taps, "onuivj", "oijnuv")[..., ::-1, ::-1]
    return phases.reshape(outputs * scale**2, inputs, k, k).copy()


def activation_patterns(size: int, scale: int, padding: int = 0) -> NDArray[np.bool_]:
    """Return which weights of a kernel are active at which phase: the r*r activation patterns of ESPCN.

    As a convolution of stride 1/r, the layer puts r - 1 zeros between the samples. Only the weights that are
    at a sample, every r-th, are active:

    >>> for pattern in activation_patterns(5, 2)[0, :, 0]:  # along a kernel's first row
    ...     print("".join("#" if active else "." for active in pattern))
    #.#.#
    .#.#.
    >>> activation_patterns(5, 2).sum(axis=(2, 3))          # at most ceil(5/2)**2 = 9 at a time
    array([[9, 6],
           [6, 4]])

    Each weight is active at exactly one phase, so the patterns show how `subpixel_weights` splits a kernel:

    >>> kernel = np.arange(16).reshape(1, 1, 4, 4)
    >>> kernel[0, 0, activation_patterns(4, 2)[0, 1]]
    array([ 1,  3,  9, 11])
    >>> subpixel_weights(kernel, 2)[0 * 2 + 1].ravel()
    array([11,  9,  3,  1])

    Args:
        size: side of the transposed convolution's kernel. The convolution of stride 1/r has the same weights
            in reverse order.
        scale: r, at least 1.
        padding: of the transposed convolution; it shifts the phases.

    Returns:
        ``(r, r, size, size)``: ``[i, j, s, t]`` is true if weight ``(s, t)`` is active at the HR pixels of
        phase ``(i, j)``, i.e. if ``s = i + padding`` and ``t = j + padding`` modulo r.

    Raises:
        ValueError: a size or scale below 1.
    """
    _check_scale(scale)
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size}")
    active: NDArray[np.bool_] = (np.arange(scale)[:, None] + padding - np.arange(size)) % scale == 0
    return active[:, None, :, None] & active[None, :, None, :]


def _rearrange(array: NDArray[_Scalar], source: str, target: str) -> NDArray[_Scalar]:
    """Permute the last axes from one order to another; each letter names an axis."""
    batch = array.ndim - len(source)
    return array.transpose(*range(batch), *(batch + source.index(axis) for axis in target))


def _check_scale(scale: int) -> None:
    if scale < 1:
        raise ValueError(f"scale must be at least 1, not {scale}")


def _check_axes(array: NDArray[Any], minimum: int) -> None:
    if array.ndim < minimum:
        raise ValueError(f"expected at least {minimum} axes, not shape {array.shape}")


def _check_kernel(kernel: NDArray[Any]) -> None:
    if kernel.ndim != 4 or kernel.shape[2] != kernel.shape[3] or kernel.shape[2] == 0:
        raise ValueError(f"expected square kernels, (outputs, inputs, size, size), not {kernel.shape}")


def _colors(channels: int, scale: int) -> int:
    _check_scale(scale)
    if channels == 0 or channels % scale**2:
        raise ValueError(f"{channels} channels are not a multiple of scale**2 = {scale**2}")
    return channels // scale**2


def _lr_side(side: int, scale: int) -> int:
    _check_scale(scale)
    if side % scale:
        raise ValueError(f"side {side} is not a multiple of the scale {scale}; crop the image first")
    return side // scale


def _digit_sizes(colors: int, scale: int, order: Order) -> list[int]:
    if order not in _DIGITS:
        raise ValueError(f"unknown channel order {order!r}; known: {', '.join(get_args(Order))}")
    _check_scale(scale)
    sizes = {"i": scale, "j": scale, "c": colors}
    return [sizes[digit] for digit in _DIGITS[order]]
