"""Compiles the programs of this package at their first use, and makes calls of them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines import code_cache
from subpixel.engines.machine_code import Call, MachineCode, compiling, target_machine
from subpixel.engines.native.instructions import InstructionSet


class Program:
    """A compiled function over blocks. Any number of threads may call it at once."""

    def __init__(
        self,
        emit: Callable[..., Any],
        arguments: Mapping[str, Any],
        instructions: InstructionSet,
        *numbers: int,
    ) -> None:
        """Compile or load it.

        Args:
            emit: gets the instruction set and the numbers, and returns the module of a function of its name.
            arguments: their names and types.
            instructions: of this processor.
            numbers: what the code depends on.

        Raises:
            EngineError: the code cannot be loaded.
        """

        def build() -> bytes:
            return object_file(emit, instructions, *numbers)

        name = emit.__name__
        with compiling:
            self._code = MachineCode(
                code_cache.load_or_build((name, *numbers, instructions.name), build), name
            )
        self._names = tuple(arguments)

    def call(self, **arguments: int | NDArray[Any]) -> Call:
        """Prepare a call; of arrays it gets the addresses."""
        given = [arguments[name] for name in self._names]
        numbers = np.array([each if isinstance(each, int) else each.ctypes.data for each in given], np.int64)
        return Call(self._code.address, (numbers.ctypes.data,), (numbers, given, self))


def object_file(
    emit: Callable[..., Any], instructions: InstructionSet, *numbers: int, triple: str = ""
) -> bytes:
    """Return the object file of a program, by default for this platform."""
    from llvmlite import binding

    module = binding.parse_assembly(str(emit(instructions, *numbers, triple=triple)))
    code: bytes = target_machine(instructions.cpu, instructions.features, triple=triple).emit_object(module)
    return code
