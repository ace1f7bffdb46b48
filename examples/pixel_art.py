"""Draw a sprite, and upscale it by the rules for pixel art and by a network, for docs/figures/pixel-art.png.

Each panel is x4 and drawn with each pixel doubled, on a checkerboard that shows transparency.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import subpixel

SCALE = 4


def sprite() -> Image.Image:
    """Draw 32x32 pixels with circles, lines, details of one pixel and transparency."""
    image = Image.new("RGBA", (32, 32))
    draw = ImageDraw.Draw(image)
    draw.ellipse((3, 3, 20, 20), fill="#dc3c28", outline="#280a0a")
    draw.ellipse((7, 7, 10, 10), fill="white")
    draw.point((8, 9), "black")
    draw.line((1, 30, 30, 1), fill="#1e78dc")
    draw.line((1, 31, 31, 20), fill="#14a03c")
    draw.rectangle((23, 22, 30, 29), outline="#fadc00")
    draw.point([(25, 24), (28, 24), (26, 27), (27, 27)], "black")
    draw.line((14, 14, 18, 12), fill="#ffffff80")
    return image


def on_checkerboard(pixels: NDArray[np.uint8]) -> Image.Image:
    """Double each pixel of an RGBA image, and put it on gray squares."""
    doubled = pixels.repeat(2, axis=0).repeat(2, axis=1)
    y, x = np.indices(doubled.shape[:2]) // 16
    squares = np.where((y + x) % 2, 150, 170)[..., None]
    opacity = doubled[..., 3:] / 255
    return Image.fromarray(np.round(doubled[..., :3] * opacity + squares * (1 - opacity)).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/pixel-art.png"), help="the figure")
    output = parser.parse_args().output
    small = np.asarray(sprite())
    panels = [subpixel.load(model, scale=SCALE)(small) for model in ("nearest", "epx", "default")]
    output.parent.mkdir(parents=True, exist_ok=True)
    on_checkerboard(np.concatenate(panels, axis=1)).save(output, optimize=True)


if __name__ == "__main__":
    main()
