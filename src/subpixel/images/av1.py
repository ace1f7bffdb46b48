"""Reads the quantizer of an AV1 key frame from its header (AV1 Bitstream & Decoding Process, section 5)."""

from dataclasses import dataclass

from subpixel.images.bits import BitReader

_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6
_SELECT = 2
_KEY_FRAME = 0
_MAX_TILE_WIDTH, _MAX_TILE_AREA, _MAX_TILES = 4096, 4096 * 2304, 64


@dataclass
class _Sequence:
    """The fields of a sequence header on which the position of the quantizer depends."""

    is_reduced: bool = False
    width_bits: int = 0
    height_bits: int = 0
    width: int = 0
    height: int = 0
    frame_id_bits: int = 0
    has_large_blocks: bool = False
    order_hint_bits: int = 0
    screen_content: int = _SELECT
    integer_mv: int = _SELECT
    has_superres: bool = False


def base_q_idx(data: bytes) -> int:
    """Return the base quantizer index of the first frame: 0 (lossless) to 255.

    Args:
        data: the data of an image in AVIF: open bitstream units.

    Raises:
        ValueError: it is truncated, or uses what still images do not.
    """
    sequence = None
    offset = 0
    while offset < len(data):
        header = data[offset]
        kind = header >> 3 & 15
        offset += 2 if header & 4 else 1
        size = len(data) - offset
        if header & 2:
            size, offset = _leb128(data, offset)
        body = BitReader(data[offset : offset + size])
        if kind == _SEQUENCE_HEADER:
            sequence = _read_sequence(body)
        elif kind in (_FRAME_HEADER, _FRAME):
            if sequence is None:
                break
            return _read_frame(body, sequence)
        offset += size
    raise ValueError("it has no frame")


def _leb128(data: bytes, offset: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[offset : offset + 8]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, offset + index + 1
    raise ValueError("a size is truncated")


def _read_sequence(bits: BitReader) -> _Sequence:
    sequence = _Sequence()
    bits.unsigned(3)  # profile
    bits.flag()  # still picture
    sequence.is_reduced = bits.flag()
    if sequence.is_reduced:
        bits.unsigned(5)
    else:
        if bits.flag():  # times
            bits.unsigned(64)
            if bits.flag():
                bits.golomb()
            if bits.flag():
                raise ValueError("it has a decoder model")
        has_display_delay = bits.flag()
        for _ in range(bits.unsigned(5) + 1):
            bits.unsigned(12)
            if bits.unsigned(5) > 7:
                bits.flag()
            if has_display_delay and bits.flag():
                bits.unsigned(4)
    sequence.width_bits, sequence.height_bits = bits.unsigned(4) + 1, bits.unsigned(4) + 1
    sequence.width = bits.unsigned(sequence.width_bits) + 1
    sequence.height = bits.unsigned(sequence.height_bits) + 1
    if not sequence.is_reduced and bits.flag():
        difference = bits.unsigned(4) + 2
        sequence.frame_id_bits = difference + bits.unsigned(3) + 1
    sequence.has_large_blocks = bits.flag()
    bits.unsigned(2)
    if not sequence.is_reduced:
        _read_tools(bits, sequence)
    sequence.has_superres = bits.flag()
    return sequence


def _read_tools(bits: BitReader, sequence: _Sequence) -> None:
    """Read which tools for video, and for images of a screen, are enabled."""
    bits.unsigned(4)
    has_order_hint = bits.flag()
    if has_order_hint:
        bits.unsigned(2)
    if not bits.flag():
        sequence.screen_content = bits.unsigned(1)
    if sequence.screen_content and not bits.flag():
        sequence.integer_mv = bits.unsigned(1)
    if has_order_hint:
        sequence.order_hint_bits = bits.unsigned(3) + 1


def _read_frame(bits: BitReader, sequence: _Sequence) -> int:
    if not sequence.is_reduced and (bits.flag() or bits.unsigned(2) != _KEY_FRAME or not bits.flag()):
        raise ValueError("it does not begin with a key frame that is shown")
    keeps_probabilities = bits.flag()
    screen_content = bits.flag() if sequence.screen_content == _SELECT else bool(sequence.screen_content)
    if screen_content and sequence.integer_mv == _SELECT:
        bits.flag()
    bits.unsigned(sequence.frame_id_bits)
    has_size = not sequence.is_reduced and bits.flag()
    bits.unsigned(sequence.order_hint_bits)
    width, height = sequence.width, sequence.height
    if has_size:
        width, height = bits.unsigned(sequence.width_bits) + 1, bits.unsigned(sequence.height_bits) + 1
    if sequence.has_superres and bits.flag():
        raise ValueError("its width is scaled")
    if bits.flag():
        bits.unsigned(32)  # the size on screen
    if screen_content:
        bits.flag()
    if not sequence.is_reduced and not keeps_probabilities:
        bits.flag()
    _skip_tiles(bits, width, height, sequence.has_large_blocks)
    return bits.unsigned(8)


def _skip_tiles(bits: BitReader, width: int, height: int, has_large_blocks: bool) -> None:
    shift = 7 if has_large_blocks else 6
    columns, rows = (-(-(8 * -(-side // 8)) // (1 << shift)) for side in (width, height))
    least_columns = _log2(_MAX_TILE_WIDTH >> shift, columns)
    least = max(least_columns, _log2(_MAX_TILE_AREA >> 2 * shift, rows * columns))
    if not bits.flag():
        raise ValueError("its tiles have different sizes")
    tile_columns = _increments(bits, least_columns, _log2(1, min(columns, _MAX_TILES)))
    tile_width = -(-columns // (1 << tile_columns))
    tile_columns = _log2(1, -(-columns // tile_width))
    tile_rows = _increments(bits, max(least - tile_columns, 0), _log2(1, min(rows, _MAX_TILES)))
    tile_height = -(-rows // (1 << tile_rows))
    tile_rows = _log2(1, -(-rows // tile_height))
    if tile_columns or tile_rows:
        bits.unsigned(tile_columns + tile_rows + 2)


def _log2(block: int, target: int) -> int:
    """The smallest k for which ``block << k`` is at least ``target``."""
    k = 0
    while block << k < target:
        k += 1
    return k


def _increments(bits: BitReader, least: int, most: int) -> int:
    value = least
    while value < most and bits.flag():
        value += 1
    return value
