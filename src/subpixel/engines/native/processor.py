"""What this processor can do, by LLVM's names of features."""

import ctypes
import platform
import sys
from functools import cache

from subpixel.errors import EngineError

ARM_FEATURES = {
    # LLVM's name: Linux's vector of bits (AT_HWCAP or AT_HWCAP2), the place in it, and Apple's name
    "dotprod": (16, 20, "FEAT_DotProd"),
    "i8mm": (26, 13, "FEAT_I8MM"),
}


@cache
def features() -> frozenset[str]:
    """Return the features that matter to the instruction sets, without AMX if the system does not allow it.

    Raises `EngineError` if llvmlite is missing.
    """
    try:
        from llvmlite import binding
    except (ImportError, OSError) as error:
        raise EngineError(
            f"engine native needs the package llvmlite ({error}): run `pip install llvmlite`"
        ) from error
    if platform.machine() in ("aarch64", "arm64"):
        return frozenset(name for name in ARM_FEATURES if _arm_has(name))
    found = frozenset(name for name, present in binding.get_host_cpu_features().items() if present)
    return found if "amx-int8" in found and granted_amx() else found - {"amx-int8"}


def _arm_has(feature: str) -> bool:
    """Ask the system, because LLVM does not find these features on every system."""
    vector, place, apple_name = ARM_FEATURES[feature]
    if sys.platform == "linux":
        get = ctypes.CDLL(None).getauxval
        get.restype, get.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
        return bool(get(vector) >> place & 1)
    if sys.platform == "darwin":
        present, size = ctypes.c_int(0), ctypes.c_size_t(4)
        name = f"hw.optional.arm.{apple_name}".encode()
        failed = ctypes.CDLL(None).sysctlbyname(name, ctypes.byref(present), ctypes.byref(size), None, 0)
        return not failed and bool(present.value)
    return False


def granted_amx() -> bool:
    """Request AMX's registers for all threads of this process, which Linux requires before their use.

    They need 8 KB in each thread's saved state (kernel documentation, "Using XSTATE features in user space").
    """
    if sys.platform != "linux":
        return False
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18
    refused: int = ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data)
    return not refused
