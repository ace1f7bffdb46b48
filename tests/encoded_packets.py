"""Print digests of the packets of all software encoders, as JSON: `python encoded_packets.py [held]`.

If held, the encoders use one CPU and as few instructions of the processor as possible.
"""

import hashlib
import json
import os
import sys
from fractions import Fraction

from picture_data import hold_ffmpeg
from subpixel.video.media import codecs
from subpixel.video.media.codecs import CODECS, Encoder, Encoding, available_codecs, options_for
from video_files import make_frames

WIDTH, HEIGHT, COUNT, THREADS = 192, 112, 12, 3
HELD_OPTIONS = {
    "libx264": ("x264-params", "asm=sse2"),
    "libx265": ("x265-params", "asm=sse2"),
    "libsvtav1": ("svtav1-params", "asm=c"),
}


def hold():
    """Use one CPU and few instructions; returns options that do so for encoders without a variable."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ["VPX_SIMD_CAPS"] = "0"
    hold_ffmpeg(0)
    codecs._machine_options = lambda codec, options: dict(options)
    return HELD_OPTIONS


def packets(codec, options):
    format = "yuv422p10le" if codec.name == "prores_ks" else "yuv420p"
    encoding = Encoding(codec.name, options=dict(options))
    encoder = Encoder(
        codec, WIDTH, HEIGHT, format, Fraction(1, 25), Fraction(25), Fraction(1), (1, 1, 1, 1), THREADS,
        options_for(codec, encoding),
    ).open()  # fmt: skip
    for frame in [*make_frames(COUNT, WIDTH, HEIGHT, format), None]:
        yield from map(bytes, encoder.encode(frame))


if __name__ == "__main__":
    held = hold() if "held" in sys.argv else {}
    digests = {}
    for codec in CODECS:
        if codec.name in available_codecs() and codec.differs is None:
            options = [held[codec.name]] if codec.name in held else []
            digests[codec.name] = hashlib.sha256(b"".join(packets(codec, options))).hexdigest()
    print(json.dumps(digests))
