"""Networks for video in machine code: `subpixel.models.history` has the arithmetic.

`frames` upscales frames. Base and correction are networks of `subpixel.engines.native`. `motion` finds the
motion of blocks, says what is done with each pixel, and moves the previous result; `search`, `alignment`,
`masks` and `moving` emit its code. `application` applies the correction, and rounds samples to 8 bits;
`change` and `rounding` emit its code.
"""
