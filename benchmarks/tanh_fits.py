"""Find the two approximations of tanh that the engines use, and print their errors.

    python benchmarks/tanh_fits.py

For int8 it is x * P(|x|) in 16-bit integers, found by linear programming. For fp32 it is x * P(x^2) /
Q(x^2), found by Lawson's iteratively reweighted least squares. The coefficients are in
`subpixel/models/quantization.py` and `subpixel/engines/native/requantize.py`. Needs SciPy, which
scikit-image installs.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from subpixel.models.quantization import TANH_LIMIT, fixed_point_tanh

ROUNDS = 600


def fit(
    limit: float, numerator: int, denominator: int
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Fit x * P(x^2) / Q(x^2) with so many coefficients of P and of Q - 1. Returns the error, P and Q."""
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


def fit_small(limit: float, count: int) -> tuple[float, NDArray[np.float64]]:
    """Fit x * P(|x| / limit), with the smallest largest coefficient among the best fits.

    Beyond the limit, where tanh goes up to 1, the value at the limit is used.
    """
    x = np.append(np.linspace(0, limit, 2000), limit)
    wanted = np.append(np.tanh(x[:-1]), 1.0)
    terms = np.stack([x * (x / limit) ** power for power in range(count)], axis=1)
    one, none = np.ones((len(x), 1)), np.zeros((len(x), 1))
    free = [(None, None)] * count
    within = np.block([[terms, -one], [-terms, -one]])
    error = linprog(np.eye(count + 1)[-1], within, np.append(wanted, -wanted), bounds=[*free, (0, None)]).fun
    limits = np.block(
        [[terms, none], [-terms, none], [np.eye(count), -one[:count]], [-np.eye(count), -one[:count]]]
    )
    room = 1.001 * error
    right = np.concatenate([wanted + room, room - wanted, np.zeros(2 * count)])
    smallest = linprog(np.eye(count + 1)[-1], limits, right, bounds=[*free, (0, None)])
    return float(error), smallest.x[:count]


def main() -> None:
    error, top = fit_small(TANH_LIMIT, 6)
    print(f"polynomial of |x| up to {TANH_LIMIT}: error {error:.2e}; coefficients in steps of 2**-12:")
    print(f"  {np.rint(top * 2**12).astype(int).tolist()}")
    arguments = np.arange(-(2**15) + 1, 2**15)
    off = fixed_point_tanh(arguments) * TANH_LIMIT / 2**12 - np.tanh(arguments * TANH_LIMIT / 2**15)
    print(f"  as in the package, with all rounding: error {np.abs(off).max():.2e}")
    error, top, bottom = fit(7.0, 4, 3)
    print(f"rational on [-7, 7]: error {error:.2e}\n  {top.tolist()}\n  {bottom.tolist()}")


if __name__ == "__main__":
    main()
