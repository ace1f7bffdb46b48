"""Which processor this is, as far as a schedule cares.

Four kinds suit the engine, all x86-64. Elsewhere it does not run, and `subpixel.engines.select` says so.
"""

import ctypes
import os
import platform
import sys
from functools import cache

from subpixel.engines.halide.plan import Machine
from subpixel.errors import EngineError

TARGET_VARIABLE = "SUBPIXEL_TARGET"
"""Environment variable that holds the engine to a simpler kind than the processor is."""

KINDS = ("amx", "vnni", "avx512", "avx2")
"""The best first."""

_BASE = ("avx", "avx2", "f16c", "fma", "sse41")
_AVX512 = (*_BASE, "avx512", "avx512_skylake")
_HASWELL = ("avx2", "fma", "f16c", "bmi", "bmi2", "lzcnt", "movbe")
_SKYLAKE = (*_HASWELL, "avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl")
_CANNONLAKE = (*_SKYLAKE, "avx512ifma", "avx512vbmi")
_ICELAKE = (*_CANNONLAKE, "avx512vbmi2", "avx512bitalg", "avx512vpopcntdq", "gfni", "vaes", "vpclmulqdq")
_VNNI = (*_ICELAKE, "avx512vnni", "avx512bf16")
_SAPPHIRE_RAPIDS = (*_VNNI, "avx512fp16", "avxvnni")
_INTEL = ("avx512_cannonlake", "avx512_sapphirerapids")

_TARGETS = (
    # The kind, what the processor must have (in LLVM's words), and what Halide calls it. Halide lets LLVM use
    # all that the named processor has, and AMD's and Intel's each have something that the other's lack.
    ("amx", (*_SAPPHIRE_RAPIDS, "amx-tile", "amx-int8"), (*_AVX512, *_INTEL)),
    ("vnni", (*_VNNI, "sse4a"), (*_AVX512, "avx512_cannonlake", "avx512_zen4")),
    ("vnni", _SAPPHIRE_RAPIDS, (*_AVX512, *_INTEL)),
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
        quads=kind in ("amx", "vnni"),
        matrices=kind == "amx",
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
    """What the processor has, in LLVM's words, but for AMX where the system does not let us have it."""
    try:
        from llvmlite import binding
    except (ImportError, OSError) as error:
        raise EngineError(
            f"engine halide needs the package llvmlite ({error}): run `pip install llvmlite`"
        ) from error
    found = frozenset(name for name, present in binding.get_host_cpu_features().items() if present)
    return found if "amx-int8" in found and _granted_amx() else found - {"amx-int8"}


def _granted_amx() -> bool:
    """Ask Linux for AMX's registers, for all threads of this process: it gives them to who asks alone.

    They take 8 KB in each thread's saved state (kernel documentation, "Using XSTATE features in user space").
    """
    if sys.platform != "linux":
        return False
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18
    refused: int = ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data)
    return not refused
