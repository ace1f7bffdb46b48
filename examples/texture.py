"""Upscale a texture that repeats, with and without ``wrap``, for docs/figures/wrap.png.

Each panel shows the place where four copies of the result meet.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import subpixel

SCALE = 4


def texture(height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """Make a grayscale texture of waves that fit into its sides, so that its opposite sides match."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:height, :width] * 2 * np.pi
    waves = np.zeros((height, width))
    for down, across in product(range(-9, 10), range(1, 10)):
        phase = down * y / height + across * x / width + rng.uniform(0, 6)
        waves += rng.normal() / np.hypot(down, across) * np.cos(phase)
    samples: NDArray[np.uint8] = np.clip(128 + 50 * waves / waves.std(), 0, 255).astype(np.uint8)
    return samples


def junction(image: NDArray[np.uint8], height: int = 128, width: int = 192) -> NDArray[np.uint8]:
    """Crop the place where four copies of an image meet."""
    top, left = image.shape[0] - height // 2, image.shape[1] - width // 2
    return np.tile(image, (2, 2))[top : top + height, left : left + width]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/wrap.png"), help="the figure")
    output = parser.parse_args().output
    small, upscaler = texture(), subpixel.load("default", scale=SCALE)
    panels = [junction(upscaler(small)), junction(upscaler(small, wrap="both"))]
    gap = np.full((panels[0].shape[0], 8), 255, np.uint8)
    figure = np.concatenate([panels[0], gap, panels[1]], axis=1)
    output.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(figure.repeat(2, axis=0).repeat(2, axis=1)).save(output, optimize=True)


if __name__ == "__main__":
    main()
