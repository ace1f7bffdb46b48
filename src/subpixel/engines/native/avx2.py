"""AVX2: almost every x86-64 processor since 2013."""

from subpixel.engines.native.x86 import AVX2, X86


class Avx2(X86):
    """Products of 16-bit pairs in vectors of 256 bits. AVX2's own products of bytes saturate."""

    name = "avx2"
    lanes = 8
    registers = 16
    parts = 2
    product_registers = 1
    most_accumulators = 8
    needs = AVX2
    cpu = "x86-64-v3"
