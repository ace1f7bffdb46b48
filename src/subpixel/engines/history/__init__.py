"""Networks for video in machine code: `subpixel.models.history` has the arithmetic.

`motion` finds the motion of blocks and moves the previous result; `alignment` and `moving` emit its code.
"""
