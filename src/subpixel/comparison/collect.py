"""What is on a page: the stills, every result of theirs, where results differ, and PSNR and SSIM."""

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from subpixel import __version__
from subpixel.comparison.differences import find_spots
from subpixel.comparison.frames import FrameStill, read_frames
from subpixel.comparison.methods import Method
from subpixel.comparison.page import PageWriter
from subpixel.comparison.reference import PROTOCOL, open_reference, read_reference_frame, scores
from subpixel.comparison.stills import Crop, Still, open_image
from subpixel.errors import ImageTooLarge


class PageContent:
    """Collects what a page shows, and writes its images on the way.

    Attributes:
        scale: of all methods.
        count: how many stills there are so far.
        size: width and height of the part that the page shows, in pixels of the input.
    """

    def __init__(
        self,
        source: Path,
        reference: Path | None,
        methods: Sequence[Method],
        crop: Crop | None,
        max_page_pixels: int,
    ) -> None:
        self.scale = int(methods[0].upscaler.scale)
        self.size = (0, 0)
        self._source = source
        self._reference = reference
        self._methods = methods
        self._crop = crop
        self._max_page_pixels = max_page_pixels
        self._stills: list[dict[str, Any]] = []
        self._warnings = [warning for method in methods for warning in method.warnings]
        self._is_transparent = False
        self._dtype = np.dtype(np.uint8)

    @property
    def count(self) -> int:
        """How many stills there are so far."""
        return len(self._stills)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What had to be changed or left out, each once."""
        return tuple(dict.fromkeys(self._warnings))

    def add_image(self, writer: PageWriter, report: Callable[[float], None]) -> None:
        """Add an image file and its results; ``report`` is called with the fraction that is done."""
        still = open_image(self._source, self.scale, self._crop, lambda part: self._check_pixels(part, 1))
        self._warnings += [f"{self._source}: {warning}" for warning in still.warnings]
        reference = None
        if self._reference is not None:
            reference, warnings = open_reference(self._reference, still, self.scale)
            self._warnings += warnings
        self._add(writer, still, reference, report)

    def add_video(self, writer: PageWriter, count: int, report: Callable[[float], None]) -> None:
        """Add ``count`` frames of a video file and their results."""
        for number, still in enumerate(read_frames(self._source, count, self._crop)):
            if number == 0:
                self._check_pixels(still.crop, count)
            reference: FrameStill | None = None
            if self._reference is not None:
                reference, warnings = read_reference_frame(self._reference, still, self.scale)
                self._warnings += warnings
            self._add(writer, still, reference, _share(report, number, count))
        if self.count < count:
            self._warnings.append(f"{self._source}: gave {self.count} of {count} frames")

    def _check_pixels(self, part: Crop, stills: int) -> None:
        """Raise `ImageTooLarge` for a page that browsers would not show."""
        images = stills * (len(self._methods) + (self._reference is not None))
        large = part.enlarged(self.scale)
        if (pixels := images * large.width * large.height) <= self._max_page_pixels:
            return
        few = "fewer frames (--frames), " if stills > 1 else ""
        raise ImageTooLarge(
            f"{self._source}: {images} images of {large.width} x {large.height} are {pixels:,} pixels, "
            f"more than the limit of {self._max_page_pixels:,} on a page; show a part "
            f"(--crop X,Y,WIDTH,HEIGHT), {few}fewer models, or raise --max-page-pixels (max_page_pixels)"
        )

    def _add(
        self, writer: PageWriter, still: Still, reference: Still | None, report: Callable[[float], None]
    ) -> None:
        """Add one image or frame."""
        self.size = (still.crop.width, still.crop.height)
        original = still.original()
        self._dtype = original.samples.dtype
        images = {"original": writer.add_image(original.samples, still.metadata)}
        target = None
        if reference is not None:
            target = reference.original()
            images["reference"] = writer.add_image(target.samples, reference.metadata)
        is_transparent = still.is_transparent or (reference is not None and reference.is_transparent)
        self._is_transparent = self._is_transparent or is_transparent
        if is_transparent and target is not None:
            self._warnings.append("PSNR and SSIM are left out: they are not defined for transparency")
        planes = {} if target is None else {"reference": target.luma}
        measured: dict[str, dict[str, Any]] = {}
        for number, method in enumerate(self._methods):
            result = still.upscaled(method.upscaler)
            name = f"method-{number}"
            images[name] = writer.add_image(result.samples, still.metadata)
            planes[name] = result.luma
            if target is not None and not is_transparent:
                measured[name] = scores(target.luma, result.luma, self.scale)
            report((number + 1) / len(self._methods))
        self._stills.append(
            {
                "label": still.label,
                "images": images,
                "spots": {
                    f"{first} {second}": [list(spot) for spot in find_spots(one, other, self.scale)]
                    for (first, one), (second, other) in combinations(sorted(planes.items()), 2)
                },
                "scores": measured,
            }
        )

    def _without_folders(self, text: str) -> str:
        """A message for the page, which people pass on: without the folders of this machine."""
        for file in filter(None, (self._source, self._reference)):
            text = text.replace(str(file), file.name)
        return text

    def mean_psnr_db(self) -> dict[str, float]:
        """By method, the mean over the stills; without those that equal the reference everywhere."""
        means = {}
        for number, method in enumerate(self._methods):
            values = [still["scores"].get(f"method-{number}", {}).get("psnr_db") for still in self._stills]
            if known := [value for value in values if value is not None]:
                means[method.name] = round(float(np.mean(known)), 3)
        return means

    def describe(self) -> dict[str, Any]:
        """Everything that ``page.js`` shows, with images by their ``id``."""
        views = [{"id": "original", "name": "original pixels", "detail": "the input, each pixel as a square"}]
        for number, method in enumerate(self._methods):
            engine = method.upscaler.engine
            detail = "interpolation, no network" if number == 0 else f"model, {engine.precision} arithmetic"
            detail += ", with the frames before" if method.has_history else ""
            detail = f"{detail}, {method.note}" if method.note else detail
            views.append({"id": f"method-{number}", "name": method.name, "detail": detail})
        if self._reference is not None:
            views.append({"id": "reference", "name": "reference", "detail": self._reference.name})
        models = [view["id"] for view in views if view["id"].startswith("method-")]
        asked_for = [
            f"method-{number}" for number, method in enumerate(self._methods) if number and not method.note
        ]
        return {
            "file": self._source.name,
            "version": __version__,
            "scale": self.scale,
            "size": list(self.size),
            "crop": list(self._crop) if self._crop else None,
            "bits": 8 * self._dtype.itemsize,
            "transparent": self._is_transparent,
            "views": views,
            # Two models that were asked for are compared with each other, one with bicubic.
            "left": asked_for[0] if len(asked_for) > 1 else models[0],
            "right": asked_for[1] if len(asked_for) > 1 else models[-1],
            "stills": self._stills,
            "protocol": PROTOCOL.format(scale=self.scale),
            "warnings": [self._without_folders(warning) for warning in self.warnings],
        }


def _share(report: Callable[[float], None], number: int, count: int) -> Callable[[float], None]:
    """Report the progress of one of several stills as that of all."""
    return lambda fraction: report((number + fraction) / count)
