"""Charts and figures with matplotlib, which is imported only when one is drawn."""

from pathlib import Path
from typing import TYPE_CHECKING

from subpixel.errors import OutputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
"""The palette of Okabe and Ito: colors that people of every color vision can tell apart, in print too."""


def new_figure(inches: tuple[float, float]) -> "Figure":
    """An empty figure of a width and a height; `OutputError` with the cure where matplotlib is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OutputError(f"drawing needs matplotlib ({error}): pip install matplotlib") from error
    figure = Figure(figsize=inches, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure; its extension decides the format. `OutputError` where that fails."""
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: could not be written ({error})") from error
