"""What is inside a page that `subpixel compare` wrote."""

import base64
import json
import re

import imagecodecs


def description(path):
    """What page.js shows."""
    found = re.search(
        r'<script type="application/json" id="description">(.*?)</script>', path.read_text("utf-8")
    )
    return json.loads(found[1])


def pngs(path):
    """The PNG files inside, by the id of their element."""
    found = re.findall(
        r'<script type="text/plain" id="([^"]*)">data:image/png;base64,([^<]*)<', path.read_text("utf-8")
    )
    return {name: base64.b64decode(text) for name, text in found}


def samples(path, view, still=0):
    """The samples of a view, as imagecodecs decodes them."""
    name = description(path)["stills"][still]["images"][view]
    return imagecodecs.png_decode(pngs(path)[name])
