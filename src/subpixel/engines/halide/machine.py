"""Which processor this is, as far as a schedule cares.

Three kinds suit the engine, all x86-64. Elsewhere it does not run, and `subpixel.engines.select` says so.
"""

import os
import platform
import sys
from functools import cache

from subpixel.engines.halide.plan import Machine
from subpixel.errors import EngineError

TARGET_VARIABLE = "SUBPIXEL_TARGET"
"""Environment variable that holds the engine to a simpler kind than the processor is."""

_BASE = ("avx", "avx2", "f16c", "fma", "sse41")
_AVX512 = ("avx512", "avx512_skylake")
_SERVER = ("avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl", "fma", "f16c")
_LATER = ("avx512ifma", "avx512vbmi", "avx512vbmi2", "avx512vnni", "avx512bitalg", "avx512vpopcntdq")

KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # What the processor must have, in LLVM's words; and what Halide calls it.
    "vnni": ((*_SERVER, *_LATER), (*_BASE, *_AVX512, "avx512_cannonlake", "avx512_zen4")),
    "avx512": (_SERVER, (*_BASE, *_AVX512)),
    "avx2": (("avx2", "fma", "f16c"), _BASE),
}
"""The best first."""


def machine(kind: str | None = None) -> Machine:
    """The machine to compile for.

    Args:
        kind: a name in `KINDS`, which the processor need not be; by default the best that it is, or what the
            environment variable ``SUBPIXEL_TARGET`` says.

    Raises:
        EngineError: an unknown kind, or a processor that is none of them.
    """
    kind = kind or os.environ.get(TARGET_VARIABLE) or host_kind()
    if kind not in KINDS:
        raise EngineError(f"unknown target {kind!r}; known: {', '.join(KINDS)}")
    system = {"linux": "linux", "darwin": "osx", "win32": "windows"}.get(sys.platform, "linux")
    target = "-".join(["x86-64", system, *KINDS[kind][1], "no_bounds_query-no_runtime"])
    wide = kind != "avx2"
    return Machine(kind, target, lanes=16 if wide else 8, registers=32 if wide else 16, quads=kind == "vnni")


def host_machine(kind: str | None = None) -> Machine:
    """`machine`, but `EngineError` also for a kind whose code this processor cannot run."""
    of, host = machine(kind), host_kind()
    kinds = list(KINDS)
    if kinds.index(of.kind) < kinds.index(host):
        raise EngineError(f"this processor is {host}: it cannot run code for {of.kind}")
    return of


@cache
def host_kind() -> str:
    """The best kind that this processor is; `EngineError` where it is none."""
    name = platform.machine()
    if name not in ("x86_64", "AMD64"):
        raise EngineError(f"engine halide is made for x86-64 processors, not for {name}")
    from llvmlite import binding

    has = {feature for feature, present in binding.get_host_cpu_features().items() if present}
    for kind, (needed, _) in KINDS.items():
        if has.issuperset(needed):
            return kind
    raise EngineError("engine halide needs a processor with AVX2")
