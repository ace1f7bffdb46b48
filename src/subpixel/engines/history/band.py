"""Emits what functions over bands of rows of blocks share: the rows that they need, and pixels of a block."""

from collections.abc import Iterator, Mapping

from subpixel.engines.assembler import BYTE, LONG, POINTER, Value, vector
from subpixel.engines.history.vectors import TAPS, BlockAssembler
from subpixel.engines.native.instructions import InstructionSet

MARGIN = 64
"""Bytes to the left and to the right of rows in the working memory."""

BAND_PX = 64
"""Rows of a band."""

_FRAME_ROWS = BAND_PX + 2

BAND_ARGUMENTS = {
    "frame": POINTER,  # uint8
    "frame_row": LONG,  # from row to row, in bytes
    "previous": POINTER,
    "previous_row": LONG,
    "height": LONG,
    "width": LONG,
    "rows": LONG,  # of blocks
    "columns": LONG,
    "first": LONG,  # rows of blocks to compute
    "stop": LONG,
    "pitch": LONG,  # from row to row in the working memory: see `pitch`
    "working": POINTER,  # `working_bytes`
}


def pitch(columns: int, block_px: int) -> int:
    """Return the bytes from row to row in the working memory for so many columns of blocks.

    It is an odd multiple of a cache line, so that the same column of many rows can be in the cache at once.
    """
    across = columns * block_px
    return (2 * MARGIN + across + -across % MARGIN) | MARGIN


def working_bytes(pitch_bytes: int, steps: int, range_px: int) -> int:
    """Return the size of the working memory."""
    return (steps * _searched_rows(range_px) + _FRAME_ROWS + 3) * pitch_bytes


def _searched_rows(range_px: int) -> int:
    """Rows of the previous frame that a band needs."""
    return BAND_PX + 2 * range_px + TAPS


class Band(BlockAssembler):
    """A function over bands of rows of blocks; ``down`` is the place of a block's first row in the band."""

    def __init__(
        self,
        name: str,
        arguments: Mapping[str, Value],
        instructions: InstructionSet,
        sizes: tuple[int, int, int],
        triple: str,
    ) -> None:
        """Begin the function; ``sizes`` are the steps in a pixel, ``block_px`` and ``range_px``."""
        self.steps, self.block, self.range = sizes
        super().__init__(name, arguments, instructions, self.steps, triple)
        self.line = vector(BYTE, instructions.line)
        given, self.pitch = self.given, self.given["pitch"]
        self.across = self.times(given["columns"], self.block)
        memory = self.at(given["working"], MARGIN)
        self.plane_bytes = self.times(self.pitch, _searched_rows(self.range))
        # For each step of a pixel, rows from ``range + 1`` above the band on.
        self.previous, memory = memory, self.at(memory, self.times(self.plane_bytes, self.steps))
        # Rows from the one above the band on.
        self.frame, memory = memory, self.at(memory, self.times(self.pitch, _FRAME_ROWS))
        # For each 4 columns the best candidate, and for each 2 the sum of absolute detail: INT.
        self.best, self.details = memory, self.at(memory, self.pitch)
        # The pixels of a block that are compared at once; a block is one or more such pieces.
        self.piece = vector(BYTE, min(self.block**2, instructions.line))
        self.pieces = self.block**2 // self.piece.count
        self.pixels = self.local("pixels", self.block**2)
        self.last_row = self.minus(self.times(given["rows"], self.block), 1)

    # The rows of a band

    def begin_band(self, start: Value, stop: Value) -> None:
        """Copy and interpolate what rows of blocks need."""
        top, bottom = (self.times(row, self.block) for row in (start, stop))
        self._copy_rows("frame", self.frame, self.minus(top, 1), self.add(bottom, 1))
        first, end = self.minus(top, self.range + 1), self.add(bottom, self.range + TAPS - 1)
        self._copy_rows("previous", self.previous, first, end)
        with self.loop(self.number(0), self.minus(end, first)) as row:
            self._interpolate(self.at(self.previous, self.times(self.pitch, row)))

    def _copy_rows(self, name: str, target: Value, first: Value, stop: Value) -> None:
        given = self.given
        with self.loop(first, stop) as row:
            inside = self.clamped(row, 0, self.minus(given["height"], 1))
            source = self.indexed(given[name], (inside, given[f"{name}_row"]))
            to = self.indexed(target, (self.minus(row, first), self.pitch))
            self.copy(to, source, given["width"])
            self.fill(self.load(to, BYTE), self.at(to, -MARGIN), MARGIN)
            end = self.at(to, given["width"])
            self.fill(self.load(self.at(end, -1), BYTE), end, MARGIN)

    def _interpolate(self, row: Value) -> None:
        """Interpolate a row of whole pixels at the other steps. Beyond its ends there are no steps."""
        with self.loop(self.number(0), self.across, self.line.count) as x:
            place = self.at(row, x)
            windows = [self.load(self.at(place, tap - 1), self.line) for tap in range(TAPS)]
            for step in range(1, self.steps):
                samples = self.interpolated(windows, self.constant_taps(step, self.line.count // 2))
                self.store(samples, self.at(place, self.times(self.plane_bytes, step)))
        ends = ((self.at(row, -MARGIN), row), (self.at(row, self.minus(self.across, 1)),) * 2)
        for step in range(1, self.steps):
            for start, pixel in ends:
                self.fill(self.load(pixel, BYTE), self.at(start, self.times(self.plane_bytes, step)), MARGIN)

    # Blocks

    def place(self, down: Value, right: Value) -> Value:
        """Where a block is in the previous frame, if it does not move."""
        return self.indexed(self.previous, (self.add(down, self.range + 1), self.pitch), (right, 1))

    def block_pixels(self, down: Value, right: Value) -> list[Value]:
        """Copy the pixels of a block to `pixels`; return them in pieces."""
        frame = self.indexed(self.frame, (self.add(down, 1), self.pitch), (right, 1))
        self._gather(frame, self.pixels, self.block)
        return self.pieces_at(self.pixels)

    def pieces_at(self, pointer: Value) -> list[Value]:
        """The pixels of a block in memory, without gaps, in pieces."""
        return [self.piece_at(pointer, piece) for piece in range(self.pieces)]

    def window(self, index: int) -> Value:
        """Memory for columns of a block, with the rows above and below that candidates of the search need."""
        return self.local(f"window {index}", self.block * (self.block + TAPS))

    def gather_window(self, place: Value, y: Value, x: Value, step: Value, window: Value) -> None:
        """Copy columns at a step of a pixel, from the row above ``y`` on."""
        source = self.indexed(place, (step, self.plane_bytes), (self.minus(y, 1), self.pitch), (x, 1))
        self._gather(source, window, self.block + TAPS)

    def _gather(self, source: Value, target: Value, rows: int) -> None:
        """Copy so many rows of a block, without gaps."""
        kind = vector(BYTE, self.block)
        for row in range(rows):
            pixels = self.load(self.indexed(source, (row, self.pitch)), kind)
            self.store(pixels, self.at(target, row * self.block))

    def piece_at(self, pointer: Value, piece: int) -> Value:
        """A piece of a block in memory, without gaps."""
        return self.load(self.at(pointer, piece * self.piece.count), self.piece)

    def moved(self, window: Value, step: Value, first_row: Value) -> list[Value]:
        """Interpolate a block along columns. Beyond the first and the last row of the frame are no steps."""
        taps, result = self.taps_at(step, self.piece.count // 2), []
        for piece in range(self.pieces):
            windows = [self.piece_at(self.at(window, tap * self.block), piece) for tap in range(TAPS)]
            rows = [(piece * self.piece.count + lane) // self.block for lane in range(self.piece.count)]
            inside = self.inside(first_row, self.last_row, rows)
            result.append(self.build.select(inside, self.interpolated(windows, taps), windows[1]))
        return result

    def difference(self, pixels: list[Value], others: list[Value]) -> Value:
        """The sum of absolute differences of a block."""
        sums = [self.instructions.distances(self, *pair) for pair in zip(pixels, others, strict=True)]
        total = sums[0]
        for each in sums[1:]:
            total = self.build.add(total, each)
        return self.total(total)


def each_band(code: Band) -> Iterator[tuple[Value, Value]]:
    """Emit what follows for each row of blocks to compute: its number, and its place in its band."""
    given, band = code.given, BAND_PX // code.block
    with code.loop(given["first"], given["stop"], band) as start:
        stop = code.least(code.add(start, band), given["stop"])
        code.begin_band(start, stop)
        with code.loop(start, stop) as row:
            yield row, code.times(code.minus(row, start), code.block)
