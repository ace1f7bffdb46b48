"""AVX-VNNI: Intel's laptops and desktops since 2021, AMD's Zen 5."""

from typing import ClassVar

from subpixel.engines.native.x86 import AVX2, AVX512, X86


class AvxVnni(X86):
    """Products of bytes in vectors of 256 bits, with the 16 registers of AVX2."""

    name = "avx_vnni"
    lanes = 8
    registers = 16
    parts = 1
    most_accumulators = 12
    needs: ClassVar[tuple[str, ...]] = (*AVX2, "avxvnni")
    cpu = "x86-64-v3"
    features = "+avxvnni"


class AvxVnniIn512(AvxVnni):
    """The same instructions in the encoding of AVX-512, for tests on processors that have no AVX-VNNI."""

    name = "avx_vnni_in_512"
    for_tests = True
    needs = (*AVX512, "avx512vnni")
    features = "+avx512f,+avx512vl,+avx512vnni"
