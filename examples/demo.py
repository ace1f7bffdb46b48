"""Upscale a photograph by 3, and show it beside the original and bicubic interpolation: ``make demo``.

The image is NASA's portrait of Eileen Collins (public domain), downscaled by ``imresize(portrait, 1/3)``.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import subpixel
from subpixel.ops.resize import imresize

SCALE = 3
BEFORE = Path(__file__).parent / "astronaut-170x170.png"


def side_by_side(panels: dict[str, Image.Image]) -> Image.Image:
    """Crop the same region of each image, and put the crops side by side under their titles."""
    side, title, gap = 480, 28, 8
    sheet = Image.new("RGB", (len(panels) * (side + gap) - gap, side + title), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(16)
    for index, (name, image) in enumerate(panels.items()):
        left = index * (side + gap)
        # The face and the badges: 240 x 240 pixels, each drawn as 2 x 2.
        x, y = 130, 60
        crop = image.crop((x, y, x + side // 2, y + side // 2)).resize((side, side), Image.Resampling.NEAREST)
        sheet.paste(crop, (left, title))
        draw.text((left + 4, 4), name, fill="black", font=font)
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/demo"), help="folder for the results")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)

    before = Image.open(BEFORE).convert("RGB")
    before.save(folder / "before.png")
    bicubic = Image.fromarray(imresize(np.asarray(before), SCALE))
    bicubic.save(folder / "bicubic.png")
    result = subpixel.upscale_image(BEFORE, folder / "after.png", scale=SCALE, overwrite=True)
    after = Image.open(folder / "after.png").convert("RGB")

    pixels = before.resize(after.size, Image.Resampling.NEAREST)
    titles = (f"before ({before.width} x {before.height})", "bicubic x3", f"after x3 ({result.model})")
    sheet = side_by_side(dict(zip(titles, (pixels, bicubic, after), strict=True)))
    sheet.save(folder / "side-by-side.png")

    print(f"before        {folder / 'before.png'}  {before.width} x {before.height}")
    print(f"bicubic       {folder / 'bicubic.png'}")
    size = f"{after.width} x {after.height}"
    print(f"after         {folder / 'after.png'}  {size}, model {result.model}, engine {result.engine}")
    print(f"side by side  {folder / 'side-by-side.png'}")


if __name__ == "__main__":
    main()
