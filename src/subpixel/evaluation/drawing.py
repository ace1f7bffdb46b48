"""Charts and figures with matplotlib, which is imported only when something is drawn."""

from pathlib import Path
from typing import TYPE_CHECKING

from subpixel.errors import OutputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
"""The palette of Okabe and Ito: its colors can be told apart with any color vision, and in print."""


def require_matplotlib() -> None:
    """Raise `OutputError` with the cure if matplotlib cannot be imported."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise OutputError(
            f"drawing needs matplotlib, which cannot be imported ({error}): run `pip install matplotlib`"
        ) from error


def new_figure(inches: tuple[float, float]) -> "Figure":
    """An empty figure of a width and a height in inches. Raises `OutputError` without matplotlib."""
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure to a file in the format of its extension. Raises `OutputError` if that fails."""
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: the figure cannot be written ({error})") from error
