"""Compiled functions as object files: loaded by LLVM, by way of llvmlite, without a linker."""

from functools import cache
from typing import Any

from subpixel.errors import EngineError


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


def target_machine(cpu: str = "", features: str = "") -> Any:
    """LLVM's compiler for a processor; of any that there is, unless said otherwise."""
    from llvmlite import binding

    _initialise()
    target = binding.Target.from_default_triple()
    return target.create_target_machine(cpu=cpu, features=features, opt=3, codemodel="jitdefault", jit=True)


@cache
def _initialise() -> None:
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
