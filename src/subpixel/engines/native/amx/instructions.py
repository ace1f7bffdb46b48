"""The instruction set AMX, and its emulation for tests."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from subpixel.engines.assembler import BYTE, INT, LONG, NOTHING, POINTER, Assembler, Value, vector
from subpixel.engines.native.avx512_vnni import Avx512Vnni

SIDE = 16
"""Rows of a tile register, and accumulators in a row."""

LINE = 64
"""Bytes of a row of a tile register, of a vector register and of a cache line."""


TILE_REGISTERS = 8
"""Number of tile registers."""


class TileRegister(NamedTuple):
    """A tile register, and the part of it that is used."""

    number: int
    rows: int = SIDE
    row_bytes: int = LINE


class Amx(Avx512Vnni):
    """Tile registers, and AVX-512 VNNI for all else."""

    name = "amx"
    tile_registers = True
    packs_low = True
    needs: ClassVar[tuple[str, ...]] = (
        *Avx512Vnni.needs,
        *("avx512ifma", "avx512vbmi", "avx512vbmi2", "avx512bitalg", "avx512vpopcntdq", "gfni", "vaes"),
        *("vpclmulqdq", "avx512bf16", "avx512fp16", "avxvnni", "amx-tile", "amx-int8"),
    )
    cpu = "sapphirerapids"
    features = ""

    def configure(self, code: Assembler, registers: Sequence[TileRegister]) -> None:
        """Set the sizes of the tile registers; their content is lost."""
        content = configuration(registers)
        name = f"tiles.{content.hex()}"
        pointer = code.module.globals.get(name) or code.constant(name, content)
        code.call("llvm.x86.ldtilecfg", NOTHING, pointer)

    def release(self, code: Assembler) -> None:
        """Return the tile registers to their initial state: otherwise threads take longer to switch."""
        code.call("llvm.x86.tilerelease", NOTHING)

    def tile_load(self, code: Assembler, register: TileRegister, pointer: Value, stride: int) -> None:
        """Load a tile register whose rows are ``stride`` bytes apart."""
        self._move(code, "llvm.x86.tileloadd64", register, pointer, stride)

    def tile_store(self, code: Assembler, register: TileRegister, pointer: Value, stride: int) -> None:
        """Store a tile register."""
        self._move(code, "llvm.x86.tilestored64", register, pointer, stride)

    def tile_products(
        self, code: Assembler, sums: TileRegister, values: TileRegister, weights: TileRegister
    ) -> None:
        """Add the products of unsigned values and signed weights."""
        numbers = (code.byte(register.number) for register in (sums, values, weights))
        code.call("llvm.x86.tdpbusd", NOTHING, *numbers)

    def _move(self, code: Assembler, name: str, register: TileRegister, pointer: Value, stride: int) -> None:
        code.call(name, NOTHING, code.byte(register.number), pointer, code.number(stride))

    def pack_low(self, code: Assembler, one: Value, other: Value) -> Value:
        """See `InstructionSet.pack_low`."""
        odd = code.build.shl(other, code.lanes(INT, [16] * self.lanes))
        return code.woven(*(code.build.bitcast(values, self.shorts) for values in (one, odd)))

    def larger(self, code: Assembler, one: Value, other: Value) -> Value:
        """See `InstructionSet.larger`. For floats, these processors have twice as many units."""
        return code.build.select(code.build.fcmp_ordered(">", one, other), one, other)


class AmxIn512(Amx):
    """The same code with the tile registers in memory, for tests on processors that have no AMX."""

    name = "amx_in_512"
    for_tests = True
    needs: ClassVar[tuple[str, ...]] = Avx512Vnni.needs
    cpu, features = Avx512Vnni.cpu, Avx512Vnni.features

    def configure(self, code: Assembler, registers: Sequence[TileRegister]) -> None:
        """Do nothing: every access knows the size."""

    def release(self, code: Assembler) -> None:
        """Do nothing."""

    def tile_load(self, code: Assembler, register: TileRegister, pointer: Value, stride: int) -> None:
        """See `Amx.tile_load`."""
        self._copy(code, register, self._memory(code, register), LINE, pointer, stride)

    def tile_store(self, code: Assembler, register: TileRegister, pointer: Value, stride: int) -> None:
        """See `Amx.tile_store`."""
        self._copy(code, register, pointer, stride, self._memory(code, register), LINE)

    def tile_products(
        self, code: Assembler, sums: TileRegister, values: TileRegister, weights: TileRegister
    ) -> None:
        """See `Amx.tile_products`."""
        name = "tile_products"
        if name not in code.module.globals:
            self._emit_products(code.module, name)
        pointers = (self._memory(code, register) for register in (sums, values, weights))
        code.build.call(code.module.globals[name], [*pointers, code.number(weights.rows)])

    def _emit_products(self, module: Value, name: str) -> None:
        parameters = {"sums": POINTER, "values": POINTER, "weights": POINTER, "rows": LONG}
        code = Assembler(name, parameters, module, internal=True)
        given, zero = code.given, code.number(0)
        with code.loop(zero, code.number(SIDE)) as row:
            place = code.times(row, LINE)
            total = code.at(given["sums"], place)
            with code.loop(zero, given["rows"]) as four:
                value = code.load(code.at(given["values"], place, code.times(four, 4)), INT)
                weight = code.load(code.at(given["weights"], code.times(four, LINE)), self.ints)
                result = self.dot(code, code.load(total, self.ints), code.all(value, self.lanes), weight)
                code.store(result, total)
        code.succeed()

    def _copy(
        self,
        code: Assembler,
        register: TileRegister,
        target: Value,
        target_stride: int,
        source: Value,
        source_stride: int,
    ) -> None:
        name = f"tile_copy{register.row_bytes}"
        if name not in code.module.globals:
            _emit_copy(code.module, name, register.row_bytes)
        numbers = (code.number(number) for number in (target_stride, source_stride, register.rows))
        code.build.call(code.module.globals[name], [target, source, *numbers])

    def _memory(self, code: Assembler, register: TileRegister) -> Value:
        return code.at(code.local("tiles", TILE_REGISTERS * SIDE * LINE), register.number * SIDE * LINE)


def _emit_copy(module: Value, name: str, row_bytes: int) -> None:
    """Emit a function that copies rows."""
    parameters = {"target": POINTER, "source": POINTER, "target_stride": LONG, "source_stride": LONG}
    code = Assembler(name, parameters | {"rows": LONG}, module, internal=True)
    given = code.given
    with code.loop(code.number(0), given["rows"]) as row:
        target, source = (
            code.at(given[name], code.times(row, given[f"{name}_stride"])) for name in ("target", "source")
        )
        code.store(code.load(source, vector(BYTE, row_bytes)), target)
    code.succeed()


def configuration(registers: Sequence[TileRegister]) -> bytes:
    """Return what ``ldtilecfg`` reads: the sizes of all tile registers; those not given are whole."""
    sizes = {register.number: register for register in registers}
    whole = [sizes.get(number, TileRegister(number)) for number in range(TILE_REGISTERS)]
    row_bytes = b"".join(register.row_bytes.to_bytes(2, "little") for register in whole)
    rows = bytes(register.rows for register in whole)
    return bytes([1]).ljust(16, b"\0") + row_bytes.ljust(32, b"\0") + rows.ljust(16, b"\0")
