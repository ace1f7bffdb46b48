"""Show in one dimension why a transposed convolution is a convolution of the small image, and a shuffle.

    python examples/deconvolution_as_convolution.py [-o FIGURE.png]

This follows the companion note to ESPCN (Shi et al., "Is the deconvolution layer the same as a
convolutional layer?", arXiv 1609.07009), with the same sizes. A convolution with a filter (a, b, c, d) of 4
taps, stride 2 and padding 2 turns 8 samples into 5, and three kinds of layers turn 5 samples into 8. Each
layer is a matrix. The script builds the matrices tap by tap, prints them, and applies them. The figure
needs matplotlib.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from subpixel.ops.pixel_shuffle import activation_patterns, pixel_shuffle, subpixel_weights

LARGE, SMALL = 8, 5
TAPS, STRIDE, PADDING = 4, 2, 2
NAMES = "abcd"
NONE = -1

Taps = NDArray[np.int_]
"""A layer as a matrix without weights: each entry is the index of a tap of the filter, or NONE."""

Vector = NDArray[np.float64]


def convolution() -> Taps:
    """Stride 2: each row has the filter two columns further right. ``(5, 2 + 8 + 2)``, with padding."""
    row, column = np.ogrid[:SMALL, : LARGE + 2 * PADDING]
    return _inside(column - STRIDE * row)


def transposed_convolution() -> Taps:
    """The transpose: each sample adds the filter to the output, two rows further down. ``(2 + 8 + 2, 5)``.

    The convolution pads its input. This layer crops its output instead: the first and the last two rows.
    """
    return convolution().T


def subpixel_convolution() -> Taps:
    """Stride 1/2: a convolution of stride 1 over the samples with zeros between them. ``(8, 11)``.

    The 5 samples and the 4 zeros between them are 9 columns; ``TAPS - 1 - PADDING = 1`` is added at each end.
    """
    row, column = np.ogrid[:LARGE, : len(zeros_between(np.zeros(SMALL)))]
    return _inside(column - row)


def zeros_between(samples: Vector) -> Vector:
    """The input of `subpixel_convolution`: the samples with zeros between them and at the ends."""
    padding = TAPS - 1 - PADDING
    spread = np.zeros(STRIDE * (len(samples) - 1) + 1 + 2 * padding)
    spread[samples_at()] = samples
    return spread


def samples_at() -> slice:
    """The positions of the samples among the zeros."""
    padding = TAPS - 1 - PADDING
    return slice(padding, padding + STRIDE * (SMALL - 1) + 1, STRIDE)


def reverse(taps: Taps) -> Taps:
    """The same layer with the filter reversed: (d, c, b, a)."""
    return np.where(taps == NONE, NONE, TAPS - 1 - taps)


def crop(taps: Taps) -> Taps:
    """Drop the rows of the transposed convolution that correspond to the padding of the convolution."""
    return taps[PADDING:-PADDING]


def with_weights(taps: Taps, weights: Vector) -> NDArray[np.float64]:
    """The matrix of a layer with these weights."""
    return np.where(taps == NONE, 0.0, weights[taps])


def small_convolutions_and_shuffle(samples: Vector, weights: Vector) -> Vector:
    """Two convolutions of stride 1 over the 5 samples, (c, a) and (d, b), whose outputs are interleaved."""
    phases = [np.correlate(samples, weights[phase::STRIDE][::-1], "valid") for phase in range(STRIDE)]
    return np.stack(phases, axis=1).ravel()


def _inside(tap: Taps) -> Taps:
    return np.where((tap >= 0) & (tap < TAPS), tap, NONE)


# In two dimensions


def correlate(image: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """A convolution as in networks, without padding.

    ``(i, H, W)`` and ``(o, i, k, k)`` give ``(o, H-k+1, W-k+1)``.
    """
    windows = sliding_window_view(image, weights.shape[2:], axis=(1, 2))
    result: NDArray[np.float64] = np.einsum("ihwuv,oiuv->ohw", windows, weights)
    return result


def in_two_dimensions(
    image: NDArray[np.float64], kernel: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the layer with zeros between the pixels, and as 4 small filters and a shuffle.

    ``image`` is ``(1, 5, 5)``, ``kernel`` is ``(1, 1, 4, 4)``, and both results are ``(1, 8, 8)``.
    """
    spread = np.apply_along_axis(zeros_between, 1, np.apply_along_axis(zeros_between, 2, image))
    slow = correlate(spread, kernel[..., ::-1, ::-1])
    fast = pixel_shuffle(correlate(image, subpixel_weights(kernel, STRIDE)), STRIDE)
    return slow, fast


# The explanation, printed


def as_text(taps: Taps) -> str:
    """The matrix, printed with a letter for each tap."""
    return "\n".join("    " + " ".join("·" if tap == NONE else NAMES[tap] for tap in row) for row in taps)


def explain() -> None:
    """Print the matrices, and the numbers that show which of them are equal."""
    rng = np.random.default_rng(0)
    x, weights = rng.integers(0, 10, LARGE).astype(float), np.array([1.0, 2.0, 3.0, 4.0])
    y = with_weights(convolution(), weights) @ np.pad(x, PADDING)
    transposed = with_weights(crop(transposed_convolution()), weights) @ y
    subpixel = with_weights(reverse(subpixel_convolution()), weights) @ zeros_between(y)
    shuffled = small_convolutions_and_shuffle(y, weights)
    slow, fast = in_two_dimensions(rng.standard_normal((1, 5, 5)), rng.standard_normal((1, 1, 4, 4)))
    active = activation_patterns(TAPS, STRIDE)[0, 0].sum()

    print(f"""\
A filter of {TAPS} taps: (a, b, c, d), stride {STRIDE}, padding {PADDING}. A dot is a zero.

1. Convolution: {LARGE} samples x, with a padding of {PADDING} at each end, become {SMALL} samples y = C x.

{as_text(convolution())}

2. Transposed convolution: {SMALL} samples become {LARGE}. The matrix is the transpose. Its first and last
   {PADDING} rows are cropped, because they correspond to the padding of the convolution. What is left:

{as_text(crop(transposed_convolution()))}

3. Sub-pixel convolution: zeros between the {SMALL} samples, then a convolution of stride 1, here with the
   reversed filter (d, c, b, a).

{as_text(reverse(subpixel_convolution()))}

   Every other column is multiplied by a zero. Without these columns, it is the matrix of step 2:

{as_text(reverse(subpixel_convolution())[:, samples_at()])}

   So the two layers differ only in the order of the taps, and a filter that is learned can have any order.

4. Each output uses two taps: even outputs use (c, a), and odd ones (d, b). So two convolutions of the {SMALL}
   samples, without zeros in between, compute all outputs, and a shuffle interleaves them.

{as_text(crop(transposed_convolution())[0::2])}

{as_text(crop(transposed_convolution())[1::2])}

With (a, b, c, d) = (1, 2, 3, 4) and x = {_numbers(x)}, y = {_numbers(y)}:

    transposed convolution                  {_numbers(transposed)}
    sub-pixel convolution                   {_numbers(subpixel)}
    small convolutions, then the shuffle    {_numbers(shuffled)}

In two dimensions, the same holds for both axes at once. A kernel of 4 x 4 taps has 4 patterns of
{active} active taps, so it is 4 filters of 2 x 2 taps over the small image (pixel_shuffle.subpixel_weights).
A 5 x 5 image becomes 8 x 8 both ways, and the results differ by at most {np.abs(slow - fast).max():.0e}.""")


def _numbers(values: Vector) -> str:
    return " ".join(f"{value:g}" for value in values)


# The figure

COLORS = ("#0072B2", "#D55E00", "#56B4E9", "#F0E442")
"""A color for each tap, from the palette of Okabe and Ito, which suits all kinds of color vision.
Blue is for the taps of even outputs, and warm colors are for those of odd outputs."""


class Board:
    """A canvas of unit squares, with y downwards, on which all matrices have the same scale."""

    def __init__(self, width: float, height: float, cell_inches: float = 0.25) -> None:
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(width * cell_inches, height * cell_inches))
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
        self.axes.axis("off")

    def cell(self, x: float, y: float, text: str = "", *, color: str = "white", faint: bool = False) -> None:
        """Draw one square; a faint one has no effect on the result."""
        from matplotlib.patches import Rectangle

        edge = "#d8d8d8" if faint else "#606060"
        self.axes.add_patch(
            Rectangle((x, y), 1, 1, facecolor=color, edgecolor=edge, linewidth=0.6, zorder=1 if faint else 2)
        )
        dark = color in (COLORS[0], COLORS[1])
        ink = "#8c8c8c" if faint else "white" if dark else "black"
        self.text(x + 0.5, y + 0.53, text, color=ink, size=8.5, ha="center", va="center")

    def tap(self, x: float, y: float, tap: int, *, faint: bool = False) -> None:
        """Draw one entry of a matrix: a colored square with the letter of the tap, or an empty one."""
        if tap == NONE:
            self.cell(x, y, faint=True)
        else:
            self.cell(x, y, NAMES[tap], color=_pale(COLORS[tap]) if faint else COLORS[tap], faint=faint)

    def matrix(
        self,
        x: float,
        y: float,
        taps: Taps,
        faint_rows: Sequence[int] = (),
        faint_columns: Sequence[int] = (),
    ) -> None:
        """Draw the matrix of a layer; faint rows and columns have no effect on the result."""
        for (row, column), tap in np.ndenumerate(taps):
            self.tap(x + column, y + row, int(tap), faint=row in faint_rows or column in faint_columns)

    def vector(self, x: float, y: float, labels: Sequence[str]) -> None:
        """Draw a column of samples; one without a label is a zero."""
        for row, label in enumerate(labels):
            self.cell(x, y + row, label or "0", color="#ececec" if label else "white", faint=not label)

    def heading(self, x: float, y: float, title: str, explanation: str) -> None:
        """Write the title of a panel, and two lines that explain it."""
        self.text(x, y, title, size=11.5, weight="bold", va="baseline")
        self.text(x, y + 0.45, explanation, size=9, va="top", linespacing=1.3)

    def equals(self, x: float, y: float) -> None:
        """Draw the sign between the output and the matrix."""
        self.text(x, y, "=", size=11, ha="center", va="center")

    def note(self, x: float, y: float, text: str) -> None:
        """Write a note beside a matrix."""
        self.text(x, y, text, size=8.5, style="italic", color="#606060", ha="center", va="center")

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """Write text in a style, as for `matplotlib.axes.Axes.text`."""
        self.axes.text(x, y, text, **style)


def _pale(color: str) -> str:
    channels = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return "#" + "".join(f"{round(255 - 0.25 * (255 - channel)):02x}" for channel in channels)


def draw(path: Path) -> None:
    """Draw the four layers as matrices into the file ``path``, each tap in its color."""
    board = Board(30.8, 31.9)
    _draw_convolution(board, 1, 1.5)
    _draw_transposed(board, 18.2, 1.5)
    _draw_subpixel(board, 1, 17.7)
    _draw_shuffled(board, 18.2, 17.7)
    board.figure.savefig(path, dpi=150)


INPUT_NAMES, SMALL_NAMES, LARGE_NAMES = (
    [letter + digit for digit in "₀₁₂₃₄₅₆₇"[:count]]
    for letter, count in zip("xyz", (LARGE, SMALL, LARGE), strict=True)
)
PADDED = range(LARGE + 2 * PADDING)
IN_PADDING = [*PADDED[:PADDING], *PADDED[-PADDING:]]


def _draw_convolution(board: Board, x: float, y: float) -> None:
    board.heading(
        x,
        y,
        "1  Convolution, stride 2",
        "Each row contains the filter (a, b, c, d),\ntwo columns further than the row above.",
    )
    y += 2.6
    middle = y + (len(PADDED) - SMALL) / 2
    board.vector(x, middle, SMALL_NAMES)
    board.equals(x + 1.5, middle + SMALL / 2)
    board.matrix(x + 2, middle, convolution(), faint_columns=IN_PADDING)
    board.vector(x + 14.6, y, [""] * PADDING + INPUT_NAMES + [""] * PADDING)
    board.note(x + 3, middle - 0.6, "padding")
    board.note(x + 13, middle - 0.6, "padding")


def _draw_transposed(board: Board, x: float, y: float) -> None:
    board.heading(
        x,
        y,
        "2  Transposed convolution",
        "The transpose of 1, cropped where\nthe convolution has padding.",
    )
    y += 2.6
    middle = y + len(PADDED) / 2
    board.vector(x, y + PADDING, LARGE_NAMES)
    board.equals(x + 1.5, middle)
    board.matrix(x + 2, y, transposed_convolution(), faint_rows=IN_PADDING)
    board.vector(x + 7.6, middle - SMALL / 2, SMALL_NAMES)
    board.note(x + 0.9, y + 1, "cropped")
    board.note(x + 0.9, y + len(PADDED) - 1, "cropped")


def _draw_subpixel(board: Board, x: float, y: float) -> None:
    board.heading(
        x,
        y,
        "3  Sub-pixel convolution, stride 1/2",
        "Zeros between the samples; the filter reversed, stride 1.\n"
        "Pale taps meet a zero: without these columns, it is 2.",
    )
    y += 2.6
    names = [""] * len(zeros_between(np.zeros(SMALL)))
    names[samples_at()] = SMALL_NAMES
    middle = y + len(names) / 2
    board.vector(x, middle - LARGE / 2, LARGE_NAMES)
    board.equals(x + 1.5, middle)
    zeros = [column for column, name in enumerate(names) if not name]
    board.matrix(x + 2, middle - LARGE / 2, reverse(subpixel_convolution()), faint_columns=zeros)
    board.vector(x + 13.6, y, names)


def _draw_shuffled(board: Board, x: float, y: float) -> None:
    board.heading(
        x,
        y,
        "4  Small convolutions, shuffled",
        "The even and the odd rows of 2: filters\n(c, a) and (d, b), at stride 1.",
    )
    y += 2.6
    middle = y + 5.5
    board.vector(x, middle - LARGE / 2, LARGE_NAMES)
    board.note(x + 2, middle - LARGE / 2 - 0.75, "shuffle")
    for phase, start in enumerate((middle - 4.75, middle + 0.75)):
        rows = crop(transposed_convolution())[phase::STRIDE]
        board.vector(x + 3.2, start, LARGE_NAMES[phase::STRIDE])
        board.equals(x + 4.7, start + len(rows) / 2)
        board.matrix(x + 5.2, start, rows)
        for row in range(len(rows)):
            end = middle - LARGE / 2 + STRIDE * row + phase
            board.axes.plot([x + 3.2, x + 1], [start + row + 0.5, end + 0.5], color="#909090", linewidth=0.9)
    board.vector(x + 10.8, middle - SMALL / 2, SMALL_NAMES)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the explanation, and with ``-o`` also draw it."""
    parser = argparse.ArgumentParser(
        description="Why a transposed convolution is a convolution and a shuffle."
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FIGURE", help="draw the matrices into this file"
    )
    output = parser.parse_args(arguments).output
    explain()
    if output:
        draw(output)
        print(f"\nwrote {output}")


if __name__ == "__main__":
    main()
