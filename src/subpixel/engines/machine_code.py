"""Compiled functions: loaded from object files by LLVM, by way of llvmlite, without a linker; and called."""

import ctypes
from functools import cache
from typing import Any, NamedTuple

from subpixel.errors import EngineError

MOST_WORDS = 13
"""That a compiled function is given."""

_FAILURES = {1: "out of memory", 2: "a buffer does not fit"}


class MachineCode:
    """An object file in memory; ``address`` is where the function that it was loaded for begins.

    LLVM trusts the file: it must be one that we compiled. Raises `EngineError` where LLVM refuses it.
    """

    address: int

    def __init__(self, code: bytes, function: str, support: str = "") -> None:
        """Load an object file's bytes; ``support`` is what it calls, as LLVM assembly."""
        from llvmlite import binding

        try:
            # Each has a loader of its own, since each calls its function by the same name; and the loader
            # takes the machine for its own.
            self._loader = binding.create_mcjit_compiler(binding.parse_assembly(support), target_machine())
            self._loader.add_object_file(binding.ObjectFileRef.from_data(code))
            self._loader.finalize_object()
            self.address = self._loader.get_function_address(function)
        except (RuntimeError, OSError) as error:
            raise EngineError(f"a compiled network cannot be loaded ({error})") from error
        if not self.address:
            raise EngineError("a compiled network cannot be loaded (it has no function)")


class Call(NamedTuple):
    """A call of a compiled function, prepared: any thread may make it, though not two at once."""

    address: int
    """Of the function, which returns an int: 0 if all is well."""
    words: tuple[int, ...]
    """Whole numbers and addresses, at most `MOST_WORDS`. The calling conventions of x86-64 give each 64 bits,
    and let a function be given more than it has parameters for."""
    lent: tuple[Any, ...] = ()
    """What the addresses lead to, to be kept until the call is made."""

    def __call__(self) -> None:
        """Make it on this thread; raises `EngineError` where the function fails."""
        words = self.words + (0,) * (MOST_WORDS - len(self.words))
        check(_PROTOTYPE(self.address)(*words))


_PROTOTYPE = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_int64] * MOST_WORDS)


def check(code: int) -> None:
    """Raise `EngineError` for what a compiled function returned, unless it was 0."""
    if code:
        raise EngineError(f"the compiled network failed: {_FAILURES.get(code, f'code {code}')}")


def target_machine(cpu: str = "", features: str = "", *, optimized: bool = True) -> Any:
    """LLVM's compiler for a processor; of any that there is, unless said otherwise."""
    from llvmlite import binding

    _initialize()
    target = binding.Target.from_default_triple()
    opt = 3 if optimized else 0
    return target.create_target_machine(cpu=cpu, features=features, opt=opt, codemodel="jitdefault", jit=True)


@cache
def _initialize() -> None:
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
