"""The result of a benchmark as a table and as a bar chart."""

from pathlib import Path
from typing import TYPE_CHECKING

from subpixel.benchmark.measure import Benchmark, Timing
from subpixel.evaluation.drawing import OKABE_ITO, new_figure, save_figure

if TYPE_CHECKING:
    from rich.table import Table

SUBPIXEL_COLOR, OTHER_COLOR = OKABE_ITO[0], "#999999"


def table(benchmark: Benchmark) -> "Table":
    """A table with a row for each runner, the fastest first."""
    from rich import box
    from rich.table import Table

    peaks = ", ".join(f"{precision} {rate:,.0f}" for precision, rate in sorted(benchmark.peak_gmacs.items()))
    versions = ", ".join(dict.fromkeys(f"{timing.runner} {timing.version}" for timing in benchmark.results))
    result = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),  # to fit a terminal of 80 columns
        pad_edge=False,
        title=f"{benchmark.model}, {benchmark.size} x{benchmark.scale}, {_threads(benchmark)}",
        caption=f"{benchmark.machine}; {benchmark.rounds} rounds in turn\n"
        f"peak, 10^9 multiply-adds/s: {peaks}; off by: mean difference, of 255\n{versions}",
    )
    result.add_column("runner", no_wrap=True)
    result.add_column("precision", no_wrap=True)
    for heading in ("median ms", "spread ms", "frames/s", "of peak", "off by"):
        result.add_column(heading, justify="right", no_wrap=True)
    for timing in _fastest_first(benchmark):
        result.add_row(
            timing.runner,
            timing.precision,
            f"{timing.median_ms:.2f}",
            f"{timing.min_ms:.1f}-{timing.max_ms:.1f}",
            f"{1000 / timing.median_ms:.0f}",
            "" if timing.share_of_peak is None else f"{100 * timing.share_of_peak:.0f}%",
            f"{timing.off_levels:.2f}",
            style="bold" if timing.runner.startswith("subpixel") else None,
        )
    return result


def draw(benchmark: Benchmark, path: Path) -> None:
    """Draw the medians as horizontal bars, with lines from the shortest to the longest time.

    Raises:
        OutputError: matplotlib is not installed, or the file cannot be written.
    """
    timings = _fastest_first(benchmark)[::-1]
    figure = new_figure((7, 0.45 * len(timings) + 1.3))
    axes = figure.add_subplot()
    medians = [timing.median_ms for timing in timings]
    spread = [
        [timing.median_ms - timing.min_ms for timing in timings],
        [timing.max_ms - timing.median_ms for timing in timings],
    ]
    bars = axes.barh(
        [f"{timing.runner} {timing.precision}" for timing in timings],
        medians,
        xerr=spread,
        color=[SUBPIXEL_COLOR if timing.runner.startswith("subpixel") else OTHER_COLOR for timing in timings],
        error_kw={"elinewidth": 1, "ecolor": "#333333"},
    )
    longest = max(timing.max_ms for timing in timings)
    for bar, timing in zip(bars, timings, strict=True):
        inside = timing.median_ms > longest / 10  # is there room for the number in the bar?
        left = longest / 100 + (0 if inside else timing.max_ms)
        middle, color = bar.get_y() + bar.get_height() / 2, "white" if inside else "black"
        axes.text(left, middle, f"{timing.median_ms:.1f}", va="center", color=color)
    axes.set_xlabel("ms per frame: median, shortest and longest (less is better)")
    axes.set_title(
        f"{benchmark.model}, {benchmark.size} x{benchmark.scale}, {_threads(benchmark)}", fontsize=10
    )
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def _fastest_first(benchmark: Benchmark) -> list[Timing]:
    return sorted(benchmark.results, key=lambda timing: timing.median_ms)


def _threads(benchmark: Benchmark) -> str:
    return "1 thread" if benchmark.threads == 1 else f"{benchmark.threads} threads"
