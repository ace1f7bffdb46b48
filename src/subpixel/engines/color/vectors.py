"""What the programs share: loops over vectors of pixels."""

from collections.abc import Iterator
from contextlib import contextmanager

from subpixel.engines.assembler import FLOAT, INT, Assembler, Value, vector
from subpixel.engines.color import LANES

FLOATS, INTS = vector(FLOAT, LANES), vector(INT, LANES)


class VectorAssembler(Assembler):
    """An assembler of a function over rows of pixels."""

    @contextmanager
    def each_vector(self, first: Value, stop: Value) -> Iterator[Value]:
        """Emit what follows once for each vector of pixels; the last two overlap, unless all fit."""
        last = self.minus(stop, LANES)
        with self.loop(first, stop, LANES) as place:
            yield self.least(place, last)
