"""Color conversion and resampling in machine code, equal to the bit to NumPy, but faster.

`kernel` compiles and calls the code; `program` and `resampling` emit it. The definitions are
`subpixel.images.chroma` and `subpixel.ops.resample`. Without llvmlite, and for planes narrower than a vector,
these compute.
"""

LANES = 16
"""Pixels that are computed at once, and so the fewest columns. LLVM splits vectors of them into those of the
processor."""
