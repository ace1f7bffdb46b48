"""Enlarge a photograph three times and put before, bicubic and after side by side: ``make demo``.

The picture is NASA's portrait of Eileen Collins (public domain), made small by ``imresize(portrait, 1/3)``.
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
    """The middle of each panel's picture at one size, each under its title."""
    side, title, gap = 480, 28, 8
    sheet = Image.new("RGB", (len(panels) * (side + gap) - gap, side + title), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(16)
    for index, (name, picture) in enumerate(panels.items()):
        left = index * (side + gap)
        # The face and the badges, 240 HR pixels a side, each shown as 2 x 2.
        x, y = 130, 60
        crop = picture.crop((x, y, x + side // 2, y + side // 2)).resize(
            (side, side), Image.Resampling.NEAREST
        )
        sheet.paste(crop, (left, title))
        draw.text((left + 4, 4), name, fill="black", font=font)
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/demo"), help="folder for the pictures")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)

    before = Image.open(BEFORE).convert("RGB")
    before.save(folder / "before.png")
    bicubic = Image.fromarray(imresize(np.asarray(before), SCALE))
    bicubic.save(folder / "bicubic.png")
    report = subpixel.upscale_image(BEFORE, folder / "after.png", scale=SCALE, overwrite=True)
    after = Image.open(folder / "after.png").convert("RGB")

    pixels = before.resize(after.size, Image.Resampling.NEAREST)
    titles = (f"before ({before.width} x {before.height})", "bicubic x3", f"after x3 ({report.model})")
    sheet = side_by_side(dict(zip(titles, (pixels, bicubic, after), strict=True)))
    sheet.save(folder / "side-by-side.png")

    print(f"before        {folder / 'before.png'}  {before.width} x {before.height}")
    print(f"bicubic       {folder / 'bicubic.png'}")
    size = f"{after.width} x {after.height}"
    print(f"after         {folder / 'after.png'}  {size}, by {report.model} on {report.engine}")
    print(f"side by side  {folder / 'side-by-side.png'}")


if __name__ == "__main__":
    main()
