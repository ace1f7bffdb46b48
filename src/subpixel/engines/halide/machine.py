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

KINDS = ("vnni", "avx512", "avx2")
"""The best first."""

_BASE = ("avx", "avx2", "f16c", "fma", "sse41")
_AVX512 = (*_BASE, "avx512", "avx512_skylake")
_HASWELL = ("avx2", "fma", "f16c", "bmi", "bmi2", "lzcnt", "movbe")
_SKYLAKE = (*_HASWELL, "avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl")
_CANNONLAKE = (*_SKYLAKE, "avx512ifma", "avx512vbmi")
_ICELAKE = (*_CANNONLAKE, "avx512vbmi2", "avx512bitalg", "avx512vpopcntdq", "gfni", "vaes", "vpclmulqdq")
_VNNI = (*_ICELAKE, "avx512vnni", "avx512bf16")

_TARGETS = (
    # The kind, what the processor must have (in LLVM's words), and what Halide calls it. Halide lets LLVM use
    # all that the named processor has, and AMD's and Intel's each have something that the other's lack.
    ("vnni", (*_VNNI, "sse4a"), (*_AVX512, "avx512_cannonlake", "avx512_zen4")),
    ("vnni", (*_VNNI, "avx512fp16", "avxvnni"), (*_AVX512, "avx512_cannonlake", "avx512_sapphirerapids")),
    ("avx512", _SKYLAKE, _AVX512),
    ("avx2", _HASWELL, _BASE),
)


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
    variants = [(needed, names) for name, needed, names in _TARGETS if name == kind]
    fitting = [names for needed, names in variants if _host_features().issuperset(needed)]
    names = fitting[0] if fitting else variants[0][1]
    system = "windows" if sys.platform == "win32" else "linux"
    target = "-".join(["x86-64", system, *names, "no_bounds_query-no_runtime"])
    wide = kind != "avx2"
    return Machine(
        kind,
        target,
        lanes=16 if wide else 8,
        registers=32 if wide else 16,
        quads=kind == "vnni",
        cache_bytes=(3072 if wide else 384) * 1024,
    )


def host_machine(kind: str | None = None) -> Machine:
    """`machine`, but `EngineError` also for a kind whose code this processor cannot run."""
    host = host_kind()
    of = machine(kind)
    if KINDS.index(of.kind) < KINDS.index(host):
        raise EngineError(f"this processor is {host}: it cannot run code for {of.kind}")
    return of


def host_kind() -> str:
    """The best kind that this processor is; `EngineError` where it is none."""
    if platform.machine() not in ("x86_64", "AMD64") or sys.platform == "darwin":
        raise EngineError(
            f"engine halide is made for x86-64 under Linux and Windows, not for {platform.machine()} "
            f"under {platform.system()}"
        )
    for kind, needed, _ in _TARGETS:
        if _host_features().issuperset(needed):
            return kind
    raise EngineError("engine halide needs a processor with AVX2")


@cache
def _host_features() -> frozenset[str]:
    """What the processor has, in LLVM's words."""
    try:
        from llvmlite import binding
    except (ImportError, OSError) as error:
        raise EngineError(
            f"engine halide needs the package llvmlite ({error}): run `pip install llvmlite`"
        ) from error
    return frozenset(name for name, present in binding.get_host_cpu_features().items() if present)
