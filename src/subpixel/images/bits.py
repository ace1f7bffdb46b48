"""Reads bits, the highest of each byte first, as the headers of AV1 and HEVC have them."""


class BitReader:
    """Reads the fields of a header. Bits after the end are a ``ValueError``."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data)
        self._left = 8 * len(data)

    def unsigned(self, count: int) -> int:
        """Read an unsigned integer of ``count`` bits."""
        if count > self._left:
            raise ValueError("a header is truncated")
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def flag(self) -> bool:
        """Read one bit."""
        return bool(self.unsigned(1))

    def golomb(self) -> int:
        """Read an unsigned Exp-Golomb code, ue(v) in H.264 and H.265."""
        zeros = 0
        while not self.flag():
            zeros += 1
            if zeros > 32:
                raise ValueError("a header is damaged")
        return (1 << zeros) - 1 + self.unsigned(zeros)

    def signed_golomb(self) -> int:
        """Read a signed Exp-Golomb code, se(v)."""
        value = self.golomb()
        return (value + 1) // 2 if value & 1 else -(value // 2)
