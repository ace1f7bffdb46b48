"""Emits LLVM assembly as text: the few types and instructions that `assembler` needs.

llvmlite has a builder of its own. It makes an object of each instruction, and text of all objects at the end,
which takes several times as long. Here an instruction becomes text at once. Within a block, equal
computations are emitted once, and computations with known integers not at all: LLVM would find both, but
takes longer.
"""

import operator
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any


class Type:
    """A type. There is one object for each type, so that equal ones are identical."""

    __slots__ = ("count", "element", "text", "width")

    def __init__(self, text: str, width: int = 0, element: "Type | None" = None, count: int = 0) -> None:
        """``width`` is the bits of an integer; a vector has ``count`` of its ``element``."""
        self.text, self.width, self.element, self.count = text, width, element, count


@cache
def integer(bits: int) -> Type:
    """The type of an integer."""
    return Type(f"i{bits}", bits)


@cache
def vector(element: Type, count: int) -> Type:
    """The type of a vector."""
    return Type(f"<{count} x {element.text}>", 0, element, count)


FLOAT, POINTER, NOTHING = Type("float"), Type("ptr"), Type("void")
_BOOL = integer(1)


class Value:
    """A value: its type, and how the text of an instruction refers to it."""

    __slots__ = ("name", "number", "opname", "type")

    def __init__(self, kind: Type, name: str, opname: str = "", number: int | None = None) -> None:
        """``opname`` is the instruction that computes it; ``number`` is that of a known integer."""
        self.type, self.name, self.opname, self.number = kind, name, opname, number


class Phi(Value):
    """A value that depends on the block that was before. Its text is complete at the end."""

    __slots__ = ("incoming",)
    incoming: list[str]

    def add_incoming(self, value: Value, block: str) -> None:
        """Add a block that may be before, and the value then."""
        self.incoming.append(f"[ {value.name}, %{block} ]")

    def __str__(self) -> str:
        return f"  {self.name} = phi {self.type.text} {', '.join(self.incoming)}"


@cache
def constant(kind: Type, number: float) -> Value:
    """A known number; floats are rounded to float32."""
    if kind.width == 1:
        return Value(kind, "true" if number else "false")
    if kind.width:
        return Value(kind, str(int(number)), number=int(number))
    return Value(kind, f"0x{struct.pack('>d', *struct.unpack('f', struct.pack('f', number))).hex()}")


@cache
def constant_vector(element: Type, numbers: tuple[float, ...]) -> Value:
    """A vector of known numbers."""
    names = [f"{element.text} {constant(element, number).name}" for number in numbers]
    alike = len({*names}) == 1
    return Value(vector(element, len(numbers)), f"splat ({names[0]})" if alike else f"<{', '.join(names)}>")


def undefined(kind: Type) -> Value:
    """Any value."""
    return Value(kind, "poison")


class Module:
    """Functions and constants; ``globals`` has them by name, and ``str`` makes the text."""

    def __init__(self, triple: str) -> None:
        """``triple`` is LLVM's name of the platform."""
        self.triple = triple
        self.globals: dict[str, Any] = {}

    def __str__(self) -> str:
        texts = [f'target triple = "{self.triple}"', *(each.text() for each in self.globals.values())]
        return "\n".join([*texts, '!0 = !{!"branch_weights", i32 1, i32 99}', ""])


class Constant(Value):
    """Bytes that never change, at the beginning of a cache line; the value is a pointer to them."""

    __slots__ = ("content",)

    def __init__(self, module: Module, name: str, content: bytes) -> None:
        """Add it to a module."""
        super().__init__(POINTER, f'@"{name}"')
        self.content = content
        module.globals[name] = self

    def text(self) -> str:
        """Return its definition."""
        written = "".join(f"\\{byte:02x}" for byte in self.content)
        return f'{self.name} = internal constant [{len(self.content)} x i8] c"{written}", align 64'


class Function:
    """A function; one without lines is defined elsewhere, such as LLVM's own."""

    def __init__(
        self, module: Module, name: str, result: Type, parameters: Sequence[Type], linkage: str = ""
    ) -> None:
        """Add it to a module."""
        self.name, self.result, self.parameters, self.linkage = f'@"{name}"', result, parameters, linkage
        self.attributes = ""
        self.args = [Value(kind, f"%{number}") for number, kind in enumerate(parameters)]
        self.lines: list[Any] = []
        module.globals[name] = self

    def text(self) -> str:
        """Return its definition, or its declaration."""
        kinds = ", ".join(kind.text for kind in self.parameters)
        if not self.lines:
            return f"declare {self.result.text} {self.name}({kinds})"
        lines = "\n".join(map(str, self.lines))
        head = f"define {self.linkage} {self.result.text} {self.name}({kinds}) {self.attributes}"
        return f"{head} {{\n{lines}\n}}"


_SIGNS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
_EQUALITY = {"==": "eq", "!=": "ne"}


_NEUTRAL = {"add": 0, "sub": 0, "mul": 1, "udiv": 1, "sdiv": 1, "shl": 0, "lshr": 0}
"""By operation: the second operand that changes nothing."""


def _operation(name: str, known: Callable[[int, int], int] | None = None) -> Callable[..., Value]:
    """Return a method that emits an operation with two operands, unless ``known`` computes it."""

    def emit(self: "Builder", one: Value, other: Value) -> Value:
        if known and one.number is not None and other.number is not None:
            return constant(one.type, known(one.number, other.number))
        if other.number is not None and other.number == _NEUTRAL.get(name):
            return one
        return self._computed(one.type, name, f"{name} {one.type.text} {one.name}, {other.name}")

    return emit


def _conversion(name: str) -> Callable[..., Value]:
    """Return a method that emits a conversion."""

    def emit(self: "Builder", value: Value, kind: Type) -> Value:
        if name == "bitcast" and value.type is kind:
            return value
        return self._computed(kind, name, f"{name} {value.type.text} {value.name} to {kind.text}")

    return emit


class Builder:
    """Appends instructions to a function. Blocks are in the order in which they get their instructions."""

    def __init__(self, function: Function) -> None:
        """Begin the function."""
        self._function, self._lines = function, function.lines
        self._values, self._blocks = len(function.args), 0
        self.position_at_end(self.append_basic_block())

    def _define(self, kind: Type, opname: str, text: str) -> Value:
        value = Value(kind, f"%{self._values}", opname)
        self._values += 1
        self._lines.append(f"  {value.name} = {text}")
        return value

    def _computed(self, kind: Type, opname: str, text: str) -> Value:
        """Return the value of an instruction without effects; equal ones are the same value."""
        value = self._known.get(text)
        if value is None:
            value = self._known[text] = self._define(kind, opname, text)
        return value

    # Blocks

    def append_basic_block(self) -> str:
        """Return the name of a new block, at whose end one has to begin before instructions come."""
        self._blocks += 1
        return f"b{self._blocks}"

    def position_at_end(self, block: str) -> None:
        """Begin a new block."""
        self.block = block
        self._known: dict[str, Value] = {}
        self._lines.append(f"{block}:")

    def branch(self, block: str) -> None:
        """Go to a block."""
        self._lines.append(f"  br label %{block}")

    def cbranch(self, condition: Value, then: str, otherwise: str, *, likely: bool = True) -> None:
        """Go to one of two blocks."""
        weights = "" if likely else ", !prof !0"
        self._lines.append(f"  br i1 {condition.name}, label %{then}, label %{otherwise}{weights}")

    def ret(self, value: Value) -> None:
        """Return a value."""
        self._lines.append(f"  ret {value.type.text} {value.name}")

    @contextmanager
    def if_then(self, condition: Value, *, likely: bool = True) -> Iterator[None]:
        """Emit what follows for the case that a condition holds."""
        then, end = self.append_basic_block(), self.append_basic_block()
        self.cbranch(condition, then, end, likely=likely)
        self.position_at_end(then)
        yield
        self.branch(end)
        self.position_at_end(end)

    @contextmanager
    def if_else(
        self, condition: Value, *, likely: bool = True
    ) -> Iterator[tuple[AbstractContextManager[None], AbstractContextManager[None]]]:
        """Yield two contexts: what is emitted in the first is for the case that a condition holds."""
        then, otherwise, end = (self.append_basic_block() for _ in range(3))
        self.cbranch(condition, then, otherwise, likely=likely)

        @contextmanager
        def case(block: str) -> Iterator[None]:
            self.position_at_end(block)
            yield
            self.branch(end)

        yield case(then), case(otherwise)
        self.position_at_end(end)

    def phi(self, kind: Type) -> Phi:
        """Begin a value that depends on the block before; only at the beginning of a block."""
        value = Phi(kind, f"%{self._values}", "phi")
        value.incoming = []
        self._values += 1
        self._lines.append(value)
        return value

    # Memory and calls

    def alloca(self, name: str, size: int) -> Value:
        """Return a pointer to memory of the function, at a cache line."""
        value = Value(POINTER, f'%"{name}"', "alloca")
        self._lines.insert(1, f"  {value.name} = alloca [{size} x i8], align 64")  # in the first block
        return value

    def load(self, pointer: Value, kind: Type, align: int) -> Value:
        """Read a value."""
        return self._define(kind, "load", f"load {kind.text}, ptr {pointer.name}, align {align}")

    def store(self, value: Value, pointer: Value, align: int) -> None:
        """Write a value."""
        self._lines.append(f"  store {value.type.text} {value.name}, ptr {pointer.name}, align {align}")

    def gep(self, pointer: Value, offset: Value) -> Value:
        """Return a pointer so many bytes further on."""
        if offset.number == 0:
            return pointer
        text = f"getelementptr i8, ptr {pointer.name}, {offset.type.text} {offset.name}"
        return self._computed(POINTER, "getelementptr", text)

    def call(self, function: Function, arguments: Sequence[Value]) -> Value:
        """Call a function."""
        given = ", ".join([f"{value.type.text} {value.name}" for value in arguments])
        text = f"call {function.result.text} {function.name}({given})"
        if function.result is not NOTHING:
            return self._define(function.result, "call", text)
        self._lines.append(f"  {text}")
        return undefined(NOTHING)

    # Comparisons and conversions

    def icmp_signed(self, sign: str, one: Value, other: Value) -> Value:
        """Compare integers or pointers."""
        return self._compare("icmp", _EQUALITY.get(sign) or f"s{_SIGNS[sign]}", one, other)

    def icmp_unsigned(self, sign: str, one: Value, other: Value) -> Value:
        """Compare integers without sign."""
        return self._compare("icmp", _EQUALITY.get(sign) or f"u{_SIGNS[sign]}", one, other)

    def fcmp_ordered(self, sign: str, one: Value, other: Value) -> Value:
        """Compare floats; false if one is not a number."""
        return self._compare("fcmp", f"o{_SIGNS[sign]}", one, other)

    def _compare(self, opname: str, sign: str, one: Value, other: Value) -> Value:
        kind = vector(_BOOL, one.type.count) if one.type.count else _BOOL
        text = f"{opname} {sign} {one.type.text} {one.name}, {other.name}"
        return self._computed(kind, opname, text)

    def select(self, condition: Value, one: Value, other: Value) -> Value:
        """Return one of two values."""
        kind = one.type.text
        text = f"select {condition.type.text} {condition.name}, {kind} {one.name}, {kind} {other.name}"
        return self._computed(one.type, "select", text)

    def not_(self, value: Value) -> Value:
        """Return the opposite of a boolean."""
        return self.xor(value, constant(_BOOL, 1))

    def insert_element(self, values: Value, value: Value, place: Value) -> Value:
        """Replace one lane."""
        text = f"{values.type.text} {values.name}, {value.type.text} {value.name}, i32 {place.name}"
        return self._computed(values.type, "insertelement", f"insertelement {text}")

    def shuffle_vector(self, one: Value, other: Value, lanes: Value) -> Value:
        """Take lanes of two vectors."""
        kind = one.type
        assert kind.element
        text = f"{kind.text} {one.name}, {kind.text} {other.name}, {lanes.type.text} {lanes.name}"
        result = vector(kind.element, lanes.type.count)
        return self._computed(result, "shufflevector", f"shufflevector {text}")

    add = _operation("add", operator.add)
    sub = _operation("sub", operator.sub)
    mul = _operation("mul", operator.mul)
    udiv = _operation("udiv", operator.floordiv)
    urem = _operation("urem", operator.mod)
    sdiv = _operation("sdiv")
    srem = _operation("srem")
    shl = _operation("shl")
    lshr = _operation("lshr")
    ashr = _operation("ashr")
    and_ = _operation("and")
    or_ = _operation("or")
    xor = _operation("xor")
    fadd = _operation("fadd")
    fsub = _operation("fsub")
    fmul = _operation("fmul")
    fdiv = _operation("fdiv")
    bitcast = _conversion("bitcast")
    zext = _conversion("zext")
    sext = _conversion("sext")
    trunc = _conversion("trunc")
    sitofp = _conversion("sitofp")
    fptosi = _conversion("fptosi")
    inttoptr = _conversion("inttoptr")
