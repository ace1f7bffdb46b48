"""AVX-512 with VNNI: Intel's Ice Lake and later servers, AMD's Zen 4 and later."""

from typing import ClassVar

from subpixel.engines.native.x86 import AVX512, X86


class Avx512Vnni(X86):
    """Products of bytes in vectors of 512 bits."""

    name = "avx512_vnni"
    lanes = 16
    registers = 32
    parts = 1
    most_accumulators = 20
    needs: ClassVar[tuple[str, ...]] = (*AVX512, "avx512vnni")
    cpu = "x86-64-v4"
    features = "+avx512vnni"
