"""A thin layer over llvmlite's builder of LLVM assembly: what `program` and `values` are written in."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import binding, ir

BOOL, BYTE, SHORT, INT, LONG = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
FLOAT, POINTER, NOTHING = ir.FloatType(), ir.PointerType(), ir.VoidType()

Value = Any
"""A value or a type of LLVM."""

Step = Callable[[], None]
"""Something to be emitted later: so that two things that run at once can be mixed."""


def integer(bits: int) -> Value:
    """The type of an integer."""
    return ir.IntType(bits)


def vector(kind: Value, lanes: int) -> Value:
    """The type of so many lanes."""
    return ir.VectorType(kind, lanes)


class Assembler:
    """Emits instructions into one function. Pointers are to bytes, sizes and places are LONG."""

    def __init__(self, name: str, parameters: dict[str, Value]) -> None:
        """Begin the module and its function, which returns an int."""
        self.module = ir.Module()
        self.module.triple = binding.get_default_triple()
        self._intrinsics: dict[str, Value] = {}
        function = ir.Function(self.module, ir.FunctionType(INT, list(parameters.values())), name)
        self.given = dict(zip(parameters, function.args, strict=True))
        self.build = ir.IRBuilder(function.append_basic_block())

    def succeed(self) -> None:
        """Return 0."""
        self.build.ret(ir.Constant(INT, 0))

    def call(self, name: str, result: Value, *arguments: Value) -> Value:
        """Call an intrinsic of LLVM."""
        if name not in self._intrinsics:
            kind = ir.FunctionType(result, [argument.type for argument in arguments])
            self._intrinsics[name] = ir.Function(self.module, kind, name)
        return self.build.call(self._intrinsics[name], arguments)

    # Numbers

    def number(self, value: int) -> Value:
        """A size or a place."""
        return ir.Constant(LONG, value)

    def add(self, one: Value, *others: Value | int) -> Value:
        """A sum of sizes or places."""
        for other in others:
            one = self.build.add(one, self._long(other))
        return one

    def minus(self, one: Value, other: Value | int) -> Value:
        """A difference."""
        return self.build.sub(one, self._long(other))

    def times(self, one: Value, other: Value | int) -> Value:
        """A product."""
        return self.build.mul(one, self._long(other))

    def least(self, one: Value, other: Value) -> Value:
        """The smaller of two, signed; also of vectors."""
        return self.build.select(self.build.icmp_signed("<", one, other), one, other)

    def most(self, one: Value, other: Value) -> Value:
        """The larger of two."""
        return self.build.select(self.build.icmp_signed(">", one, other), one, other)

    def _long(self, value: Value | int) -> Value:
        return self.number(value) if isinstance(value, int) else value

    # Memory

    def at(self, pointer: Value, *offsets: Value | int) -> Value:
        """A pointer so many bytes further on."""
        for offset in offsets:
            pointer = self.build.gep(pointer, [self._long(offset)], source_etype=BYTE)
        return pointer

    def load(self, pointer: Value, kind: Value, align: int = 1) -> Value:
        """Read a value."""
        return self.build.load(pointer, typ=kind, align=align)

    def store(self, value: Value, pointer: Value, align: int = 1) -> None:
        """Write a value."""
        self.build.store(value, pointer, align=align)

    def prepare_store(self, pointer: Value) -> None:
        """Fetch the cache line that a pointer is to, for writing; it may be to anywhere."""
        for_writing, near, data = (ir.Constant(INT, n) for n in (1, 3, 1))
        self.call("llvm.prefetch.p0", NOTHING, pointer, for_writing, near, data)

    def load_some(self, pointer: Value, count: Value, lanes: int) -> Value:
        """The first ``count`` of so many bytes, zeros after them; nothing beyond is touched."""
        inside = self.build.icmp_signed("<", self.lanes(LONG, range(lanes)), self.all(count, lanes))
        zeros = self.lanes(BYTE, [0] * lanes)
        return self.call(f"llvm.masked.load.v{lanes}i8.p0", zeros.type, pointer, inside, zeros)

    def clear(self, pointer: Value, size: Value) -> None:
        """Fill with zeros."""
        self.call("llvm.memset.p0.i64", NOTHING, pointer, ir.Constant(BYTE, 0), size, ir.Constant(BOOL, 0))

    def copy(self, target: Value, source: Value, size: Value) -> None:
        """Copy bytes that do not overlap."""
        self.call("llvm.memcpy.p0.p0.i64", NOTHING, target, source, size, ir.Constant(BOOL, 0))

    def constant(self, name: str, content: bytes) -> Value:
        """A pointer to bytes that never change, at the beginning of a cache line."""
        kind = ir.ArrayType(BYTE, len(content))
        variable = ir.GlobalVariable(self.module, kind, name)
        variable.linkage, variable.global_constant, variable.align = "internal", True, 64
        variable.initializer = ir.Constant(kind, bytearray(content))
        return variable

    # Vectors

    def lanes(self, kind: Value, values: Sequence[float]) -> Value:
        """A constant vector."""
        return ir.Constant(vector(kind, len(values)), list(values))

    def all(self, value: Value, lanes: int) -> Value:
        """One value in every lane."""
        single = ir.Constant(vector(value.type, lanes), ir.Undefined)
        single = self.build.insert_element(single, value, ir.Constant(INT, 0))
        return self.pick(single, [0] * lanes)

    def pick(self, source: Value, lanes: Sequence[int]) -> Value:
        """The named lanes of a vector."""
        return self.build.shuffle_vector(source, source, self.lanes(INT, lanes))

    def woven(self, even: Value, odd: Value) -> Value:
        """The even lanes of one vector, with the odd ones of another between them."""
        count = even.type.count
        lanes = [place + count * (place % 2) for place in range(count)]
        return self.build.shuffle_vector(even, odd, self.lanes(INT, lanes))

    def fused(self, one: Value, other: Value, addend: Value) -> Value:
        """One * other + addend, of 16 floats, rounded once."""
        return self.call("llvm.fma.v16f32", one.type, one, other, addend)

    # Matrices

    def tile_load(self, register: int, pointer: Value, stride: int) -> None:
        """Load a matrix whose rows are ``stride`` bytes apart."""
        self.call("llvm.x86.tileloadd64", NOTHING, self._register(register), pointer, self.number(stride))

    def tile_store(self, register: int, pointer: Value, stride: int) -> None:
        """Store a matrix."""
        self.call("llvm.x86.tilestored64", NOTHING, self._register(register), pointer, self.number(stride))

    def tile_products(self, sums: int, unsigned: int, signed: int) -> None:
        """Add the product of a matrix of unsigned bytes and one of signed bytes."""
        self.call("llvm.x86.tdpbusd", NOTHING, *map(self._register, (sums, unsigned, signed)))

    def _register(self, number: int) -> Value:
        return ir.Constant(BYTE, number)

    # Control

    @contextmanager
    def loop(self, start: Value, stop: Value, step: int = 1) -> Iterator[Value]:
        """Emit what follows once for each place from ``start``, below ``stop``."""
        build = self.build
        head, body, end = (build.append_basic_block() for _ in range(3))
        before = build.block
        build.branch(head)
        build.position_at_end(head)
        place = build.phi(LONG)
        place.add_incoming(start, before)
        build.cbranch(build.icmp_signed("<", place, stop), body, end)
        build.position_at_end(body)
        yield place
        place.add_incoming(self.add(place, step), build.block)
        build.branch(head)
        build.position_at_end(end)


def emit(steps: Sequence[Step], others: Sequence[Step] = ()) -> None:
    """Emit two sequences, evenly mixed: a processor looks only some hundred instructions ahead."""
    done = 0
    for count, step in enumerate(steps, 1):
        step()
        until = count * len(others) // len(steps)
        for other in others[done:until]:
            other()
        done = until
    for other in others[done:]:
        other()
