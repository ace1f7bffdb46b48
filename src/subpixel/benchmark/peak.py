"""The peak of the processor in multiply-adds per second, measured with a loop that does nothing else.

The speed of a network is compared with this peak. It is the peak of vector instructions, also on processors
with AMX, which may exceed it. AMX alone could do eight times as many, but a small network also spends time on
loads and activations, which are vector work.
"""

import ctypes
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from subpixel.engines.machine_code import MachineCode, target_machine
from subpixel.engines.native.instructions import InstructionSet
from subpixel.engines.native.targets import find
from subpixel.errors import EngineError

_FUNCTION = "peak"

STEPS = 4_000_000
"""Iterations of the loop in one measurement: about 10 ms, so that the start of threads does not matter."""


@dataclass(frozen=True)
class Peak:
    """The compiled loop for one precision."""

    precision: str
    instruction: str
    threads: int
    multiply_adds: int
    """Number in one call of `run`, on all threads together."""
    code: MachineCode
    function: Any
    pool: ThreadPoolExecutor

    def run(self) -> float:
        """Run the loop on all threads. Returns multiply-adds per second, of all threads together."""
        started = time.perf_counter()
        for task in [self.pool.submit(self.function, STEPS) for _ in range(self.threads)]:
            task.result()
        return self.multiply_adds / (time.perf_counter() - started)


def make_peak(precision: str, threads: int, target: str | None = None) -> Peak:
    """Compile the loop for a precision, ``"fp32"`` or ``"int8"``.

    ``target`` limits the instructions, as for `NativeEngine`. Raises `EngineError` on other processors than
    x86-64.
    """
    instructions = find(target)
    if "x86_64" not in instructions.machines:
        raise EngineError(f"the peak of {instructions.name} is not known: its loop is written for x86-64")
    loop = _loop_of(precision, instructions)
    code = MachineCode(compile_loop(precision, instructions), _FUNCTION)
    return Peak(
        precision,
        f"{loop.instruction}, {loop.lanes * 32} bits",
        threads,
        STEPS * threads * loop.accumulators * loop.lanes * loop.group,
        code,
        ctypes.CFUNCTYPE(None, ctypes.c_int64)(code.address),
        ThreadPoolExecutor(threads),
    )


def compile_loop(precision: str, instructions: InstructionSet) -> bytes:
    """Compile the loop for an instruction set of x86-64; return the object file.

    This processor may lack the instructions. LLVM ends the process if the instruction set itself lacks one.
    """
    from llvmlite import binding

    machine = target_machine(instructions.cpu, instructions.features)
    binding.initialize_native_asmparser()
    module = binding.parse_assembly(_llvm_function(_loop_of(precision, instructions)))
    code: bytes = machine.emit_object(module)
    return code


class _Loop(NamedTuple):
    """The loop in assembly. Its accumulators are independent, and enough to hide an instruction's latency."""

    instruction: str
    lines: list[str]
    """The instructions of one step."""
    accumulators: int
    """How many of them a step updates."""
    group: int
    """Multiply-adds for each lane of an accumulator."""
    lanes: int
    registers: int

    @property
    def prefix(self) -> str:
        """What names of registers begin with."""
        return "zmm" if self.lanes == 16 else "ymm"


def _loop_of(precision: str, instructions: InstructionSet) -> _Loop:
    lanes, registers = instructions.lanes, instructions.registers
    prefix = "zmm" if lanes == 16 else "ymm"
    if precision == "int8" and instructions.parts == 2:
        # Multiplication and addition are two instructions, and the product needs a register of its own.
        count = 20 if registers == 32 else 8
        lines = []
        for number in range(count):
            product = f"%{prefix}{count + 2 + number % 4}"
            lines.append(f"vpmaddwd %{prefix}{count}, %{prefix}{count + 1}, {product}")
            lines.append(f"vpaddd {product}, %{prefix}{number}, %{prefix}{number}")
        return _Loop("vpmaddwd and vpaddd", lines, count, 2, lanes, registers)
    count = 24 if registers == 32 else 12
    name, group = ("vpdpbusd", 4) if precision == "int8" else ("vfmadd231ps", 1)
    # AVX-VNNI has this instruction in another encoding than AVX-512, for vectors of 256 bits only.
    encoded = "{vex} " if name == "vpdpbusd" and lanes == 8 and "avx512vnni" not in instructions.needs else ""
    operands = f"%{prefix}{count}, %{prefix}{count + 1}"
    lines = [f"{encoded}{name} {operands}, %{prefix}{number}" for number in range(count)]
    return _Loop(name, lines, count, group, lanes, registers)


def _llvm_function(loop: _Loop) -> str:
    """LLVM code of ``void peak(i64 steps)``: clears the registers, then runs the loop."""
    clobbered = ",".join(f"~{{{loop.prefix}{number}}}" for number in range(loop.registers))
    # All of them: on denormal numbers, which other code may have left, the loop would be 50 times slower.
    clearing = "vpxord" if loop.registers == 32 else "vpxor"
    registers = (f"%{loop.prefix}{number}" for number in range(loop.registers))
    clear = "\\0A".join(f"{clearing} {name}, {name}, {name}" for name in registers)
    update = "\\0A".join(loop.lines)
    return f"""
define void @{_FUNCTION}(i64 %steps) {{
entry:
  call void asm sideeffect "{clear}", "{clobbered}"()
  br label %loop
loop:
  %step = phi i64 [ 0, %entry ], [ %next, %loop ]
  call void asm sideeffect "{update}", "{clobbered}"()
  %next = add i64 %step, 1
  %more = icmp ult i64 %next, %steps
  br i1 %more, label %loop, label %done
done:
  ret void
}}
"""
