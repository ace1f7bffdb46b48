"""Networks for video in machine code: `subpixel.models.history` has the arithmetic.

`frames` upscales frames. Base and correction are networks of `subpixel.engines.native`. `motion` finds the
motion of blocks and moves the previous result; `alignment` and `moving` emit its code. `change` emits what
applies a correction, and `rounding` what rounds samples to 8 bits.
"""
