"""Compiled functions: LLVM (llvmlite) loads object files without a linker, and ctypes calls the functions."""

import concurrent.futures.thread  # noqa: F401
import ctypes
import logging  # noqa: F401
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from subpixel.errors import EngineError

MAX_ARGUMENTS = 13
"""Largest number of arguments of a compiled function."""

CACHE_LINE = 64
"""Bytes."""

compiling = threading.RLock()
"""Held while a model is compiled or loaded. A fork waits for it: a lock that another thread holds, here or in
LLVM, would never be released in the new process."""

# Hooks that were registered last run first. A thread that compiles may wait for logging and for thread pools,
# so they are imported above: a fork gets their locks after this one.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=compiling.acquire, after_in_parent=compiling.release, after_in_child=compiling.release
    )

_FAILURES = {1: "out of memory", 2: "a buffer does not fit"}


def aligned(size: int) -> NDArray[np.uint8]:
    """Return uninitialized memory that begins at a cache line: ``(size,)``."""
    memory = np.empty(size + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + size]


class MachineCode:
    """An object file in memory.

    LLVM does not check the file, so load only files that this package compiled.
    """

    address: int
    """Of the function."""

    def __init__(self, code: bytes, function: str, support: str = "") -> None:
        """Load an object file.

        Args:
            code: the bytes of the object file.
            function: name of the function to call.
            support: LLVM assembly of the functions that the file calls.

        Raises:
            EngineError: LLVM cannot load the file, or it does not contain the function.
        """
        from llvmlite import binding

        try:
            # One loader for each file, because all files use the same function name. The loader takes
            # ownership of the target machine.
            self._loader = binding.create_mcjit_compiler(binding.parse_assembly(support), target_machine())
            self._loader.add_object_file(binding.ObjectFileRef.from_data(code))
            self._loader.finalize_object()
            self.address = self._loader.get_function_address(function)
        except (RuntimeError, OSError) as error:
            raise EngineError(f"a compiled network cannot be loaded ({error})") from error
        if not self.address:
            raise EngineError(
                f"a compiled network cannot be loaded (it does not contain the function {function})"
            )


class Call(NamedTuple):
    """A prepared call of a compiled function. Any thread may make it, but only one thread at a time."""

    address: int
    """Of the function, which returns an int: 0 for success."""
    arguments: tuple[int, ...]
    """Integers and addresses, at most `MAX_ARGUMENTS`.

    In the calling conventions of x86-64 and 64-bit Arm each has 64 bits, and a function may get more
    arguments than it has parameters.
    """
    keep_alive: tuple[Any, ...] = ()
    """The objects behind the addresses: they must exist until the call has returned."""

    def __call__(self) -> None:
        """Call the function on this thread; raises `EngineError` if it fails."""
        arguments = self.arguments + (0,) * (MAX_ARGUMENTS - len(self.arguments))
        check(_PROTOTYPE(self.address)(*arguments))


class CompiledNetwork(ABC):
    """A compiled network with a model's parameters. Any number of threads may call it at once."""

    def __call__(
        self, lr: NDArray[Any], hr: NDArray[Any], columns: slice, rows: slice, context_px: int = 0
    ) -> None:
        """Upscale a rectangle of an image.

        Args:
            lr: the whole image, ``(channels, H, W)``, in the dtype of the compiled network; the samples of a
                row are adjacent.
            hr: the upscaled image without the context, likewise. The rectangle in it is filled.
            columns, rows: the rectangle, in LR pixels of the image without the context.
            context_px: width of the border of ``lr`` that is read but not upscaled.

        Raises:
            EngineError: it failed; normally only for lack of memory.
        """
        for call in self.calls(lr, hr, [(rows, columns)], context_px):
            call()

    @abstractmethod
    def calls(
        self,
        lr: NDArray[Any],
        hr: NDArray[Any],
        rectangles: Sequence[tuple[slice, slice]],
        context_px: int = 0,
    ) -> list[Call]:
        """Prepare calls for rectangles, ``(rows, columns)``, which any threads may make."""


_PROTOTYPE = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_int64] * MAX_ARGUMENTS)


def check(code: int) -> None:
    """Raise `EngineError` if a compiled function returned another code than 0."""
    if code:
        raise EngineError(f"the compiled network failed: {_FAILURES.get(code, f'code {code}')}")


def target_machine(cpu: str = "", features: str = "", *, optimized: bool = True, triple: str = "") -> Any:
    """Return LLVM's code generator for a processor; by default a generic one of this architecture.

    With the ``triple`` of another platform, its object files are for a linker.
    """
    from llvmlite import binding

    opt = 3 if optimized else 0
    if triple:
        binding.initialize_all_targets()
        binding.initialize_all_asmprinters()
        target = binding.Target.from_triple(triple)
        return target.create_target_machine(cpu=cpu, features=features, opt=opt, reloc="pic")
    _initialize()
    target = binding.Target.from_default_triple()
    return target.create_target_machine(cpu=cpu, features=features, opt=opt, codemodel="jitdefault", jit=True)


@cache
def _initialize() -> None:
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
