"""How many multiply-adds a second the processor can do at most: a loop of nothing else, in registers.

It is what a network's time is held against: multiply-adds in the network, over time, over this. AMX could do
eight times as many, but only with nothing else to do: loads and activations, which a small network needs as
well, are vector work. So a processor with AMX too is held against its vectors, and may exceed them.
"""

import ctypes
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from subpixel.engines.halide.machine import machine
from subpixel.engines.halide.plan import GROUP
from subpixel.engines.machine_code import target_machine

STEPS = 4_000_000
"""Turns of the loop for one measurement: about 10 ms, beside which starting threads is nothing."""


@dataclass(frozen=True)
class Peak:
    """The loop for one precision, compiled."""

    precision: str
    instruction: str
    threads: int
    multiply_adds: int
    """In one call of ``run`` on all threads."""
    loader: Any
    function: Any
    pool: ThreadPoolExecutor

    def run(self) -> float:
        """Multiply-adds a second, all threads together."""
        started = time.perf_counter()
        for task in [self.pool.submit(self.function, STEPS) for _ in range(self.threads)]:
            task.result()
        return self.multiply_adds / (time.perf_counter() - started)


def make_peak(precision: str, threads: int, target: str | None = None) -> Peak:
    """Compile the loop: independent sums, enough of them to hide each instruction's latency."""
    from llvmlite import binding

    of = machine(target)
    products = of.products(precision)
    wide = "zmm" if of.lanes == 16 else "ymm"
    sums = 24 if of.registers == 32 else 12
    if products == "pairs":
        # Product and sum are two instructions, and the product needs a register of its own.
        sums = 20 if of.registers == 32 else 8
        scratch = [f"%{wide}{sums + 2 + number % 4}" for number in range(sums)]
        body = [
            line
            for number in range(sums)
            for line in (
                f"vpmaddwd %{wide}{sums}, %{wide}{sums + 1}, {scratch[number]}",
                f"vpaddd {scratch[number]}, %{wide}{number}, %{wide}{number}",
            )
        ]
    else:
        name = "vpdpbusd" if products == "quads" else "vfmadd231ps"
        body = [f"{name} %{wide}{sums}, %{wide}{sums + 1}, %{wide}{number}" for number in range(sums)]
    used = ",".join(f"~{{{wide}{number}}}" for number in range(of.registers))
    clear, work = (
        "\\0A".join(lines) for lines in ([f"vxorps %ymm{n}, %ymm{n}, %ymm{n}" for n in range(16)], body)
    )
    assembly = f"""
define void @peak(i64 %steps) {{
entry:
  call void asm sideeffect "{clear}", "{used}"()
  br label %loop
loop:
  %step = phi i64 [ 0, %entry ], [ %next, %loop ]
  call void asm sideeffect "{work}", "{used}"()
  %next = add i64 %step, 1
  %more = icmp ult i64 %next, %steps
  br i1 %more, label %loop, label %done
done:
  ret void
}}
"""
    native = target_machine(binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten())
    binding.initialize_native_asmparser()
    loader = binding.create_mcjit_compiler(binding.parse_assembly(assembly), native)
    loader.finalize_object()
    function = ctypes.CFUNCTYPE(None, ctypes.c_int64)(loader.get_function_address("peak"))
    multiply_adds = STEPS * threads * sums * of.lanes * GROUP[products]
    instruction = {"float": "vfmadd231ps", "pairs": "vpmaddwd and vpaddd", "quads": "vpdpbusd"}[products]
    return Peak(
        precision,
        f"{instruction}, {of.lanes * 32} bits",
        threads,
        multiply_adds,
        loader,
        function,
        ThreadPoolExecutor(threads),
    )
