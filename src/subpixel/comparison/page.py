"""The page as a file: HTML with its style, script and images inside, so that it opens without a network."""

import base64
import html
import io
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from subpixel.images.codecs import png
from subpixel.images.image import Metadata, Strips
from subpixel.images.workers import Workers

_IMAGES = "<!-- images -->"
"""Where images go in ``page.html``."""

_DATA = "<!-- data -->"
"""Where the description of the page goes, behind the images."""


class PageWriter:
    """Writes a page image by image, so that memory holds one of them."""

    def __init__(self, file: TextIO, title: str, threads: int) -> None:
        """Write the beginning of the page.

        Args:
            file: opened for writing UTF-8.
            title: of the browser's tab.
            threads: CPU threads that compress images.
        """
        self._file = file
        self._threads = threads
        self._count = 0
        start, self._middle, self._end = _template(title)
        file.write(start)

    def add_image(self, samples: NDArray[Any], metadata: Metadata) -> str:
        """Add an image as PNG, and return the ``id`` of its element.

        Args:
            samples: ``(H, W)`` or ``(H, W, 2 to 4)``, see `Strips`.
            metadata: what the PNG states besides.
        """
        data = io.BytesIO()
        strips = Strips(samples.shape, samples.dtype, len(samples), iter([np.ascontiguousarray(samples)]))
        with Workers(self._threads) as workers:
            png.write(data, strips, metadata, workers)
        name = f"image-{self._count}"
        self._count += 1
        # The text of a script that is no program: the browser decodes an image only when it is shown.
        encoded = base64.b64encode(data.getbuffer()).decode("ascii")
        self._file.write(f'<script type="text/plain" id="{name}">data:image/png;base64,{encoded}</script>\n')
        return name

    def finish(self, description: Mapping[str, Any]) -> None:
        """Write the rest of the page; ``description`` is what ``page.js`` shows."""
        text = json.dumps(description, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text = text.replace("<", "\\u003c")  # nothing in it can end the script element
        self._file.write(self._middle)
        self._file.write(f'<script type="application/json" id="description">{text}</script>\n')
        self._file.write(self._end)


def _template(title: str) -> tuple[str, str, str]:
    """The page before its images, between them and its description, and behind that."""
    folder = files(__package__)
    style, stage, script, page = (
        (folder / name).read_text(encoding="utf-8")
        for name in ("page.css", "stage.js", "page.js", "page.html")
    )
    script = f"{stage}\n{script}"
    page = page.replace("{{title}}", html.escape(title)).replace("/* style */", style)
    start, rest = page.split(_IMAGES)
    middle, end = rest.split(_DATA)
    return start, middle.lstrip("\n"), end.replace("/* script */", script).lstrip("\n")
