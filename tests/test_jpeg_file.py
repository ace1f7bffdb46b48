"""The structure of JPEG files is found whatever bytes lie between markers."""

import random
import re

from subpixel.images.codecs.jpeg_file import _find_marker

MARKER = re.compile(rb"\xff+([^\x00\xff\x01\xd0-\xd7])", re.DOTALL)
BYTES = bytes([0x00, 0x01, 0x07, 0xD0, 0xD7, 0xD8, 0xD9, 0xE0, 0xFF, 0xFF, 0xFF])


def test_markers_are_those_of_the_standard():
    """Neither stuffed zeros, restarts and TEM, nor the fill bytes before a marker."""
    rng = random.Random(0)
    for _ in range(2000):
        data = bytes(rng.choices(BYTES, k=rng.randrange(12)))
        for offset in range(len(data) + 2):
            found = MARKER.search(data, offset)
            assert _find_marker(data, offset) == (found.end() - 2 if found else len(data)), (data, offset)
