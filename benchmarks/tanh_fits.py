"""Find the two fits to tanh that the engines use, and say how far off they are.

    python benchmarks/tanh_fits.py

Minimax by Lawson's reweighting of least squares: x * P(x^2) for 8 bits, x * P(x^2) / Q(x^2) for fp32. They
stand in `subpixel/quantisation.py` and `subpixel/engines/halide/algorithm.py`.
"""

import numpy as np
from numpy.typing import NDArray

ROUNDS = 600


def fit(
    limit: float, numerator: int, denominator: int
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Fit with that many powers of x^2 (beside the constant 1 of Q); error, P and Q."""
    angles = np.pi * (np.arange(4000) + 0.5) / 4000
    x = np.append(limit * (0.5 - 0.5 * np.cos(angles)), limit)
    square, wanted = (x / limit) ** 2, np.tanh(x)
    weight, below = np.ones_like(x), np.ones_like(x)
    best = np.inf, np.empty(0), np.empty(0)
    for _ in range(ROUNDS):
        columns = [x * square**power for power in range(numerator)]
        columns += [-wanted * square**power for power in range(1, denominator + 1)]
        matrix = np.stack(columns, axis=1) * (np.sqrt(weight) / np.abs(below))[:, None]
        size = np.abs(matrix).max(axis=0)
        right = wanted * np.sqrt(weight) / np.abs(below)
        solution = np.linalg.lstsq(matrix / size, right, rcond=None)[0] / size
        top, bottom = solution[:numerator], np.append(1.0, solution[numerator:])
        below = np.polyval(bottom[::-1], square)
        off = np.abs(x * np.polyval(top[::-1], square) / below - wanted)
        if off.max() < best[0]:
            powers = limit ** (2.0 * np.arange(max(len(top), len(bottom))))
            best = float(off.max()), top / powers[: len(top)], bottom / powers[: len(bottom)]
        weight *= off / off.max() + 1e-3
        weight /= weight.mean()
    return best


def main() -> None:
    error, top, _ = fit(3.5, 7, 0)
    print(f"polynomial up to x^13 on [-3.5, 3.5]: off by {error:.2e}\n  {top.tolist()}")
    error, top, bottom = fit(7.0, 4, 3)
    print(f"rational on [-7, 7]: off by {error:.2e}\n  {top.tolist()}\n  {bottom.tolist()}")


if __name__ == "__main__":
    main()
