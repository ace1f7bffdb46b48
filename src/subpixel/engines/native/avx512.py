"""AVX-512 without VNNI: Intel's Skylake servers."""

from subpixel.engines.native.x86 import AVX512, X86


class Avx512(X86):
    """Products of 16-bit pairs in vectors of 512 bits."""

    name = "avx512"
    lanes = 16
    registers = 32
    parts = 2
    product_registers = 1
    most_accumulators = 20
    needs = AVX512
    cpu = "x86-64-v4"
