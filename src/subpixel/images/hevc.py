"""Reads the quantization parameter of an HEVC picture from its headers (ITU-T H.265, section 7.3)."""

from dataclasses import dataclass, field

from subpixel.images.bits import BitReader

_SPS, _PPS = 33, 34
_IDR = (19, 20)
_I_SLICE = 2


@dataclass
class _Parameters:
    """The fields of the parameter sets on which the position of the quantizer depends."""

    is_monochrome: bool = False
    separate_planes: bool = False
    has_sample_offset: bool = False
    has_output_flag: bool = False
    extra_bits: int = 0
    initial_qp: int = 26
    sets: set[int] = field(default_factory=set)
    """Types of the sets that were read."""


def quantization_parameter(configuration: bytes, data: bytes) -> int:
    """Return the quantization parameter of the first slice, usually 0 to 51; less for more than 8 bits.

    Args:
        configuration: the body of hvcC, which has the parameter sets.
        data: the data of the image: NAL units behind their lengths.

    Raises:
        ValueError: it is truncated, or not an independent picture.
    """
    parameters = _Parameters()
    if len(configuration) < 23:
        raise ValueError("its configuration is truncated")
    length_bytes = (configuration[21] & 3) + 1
    offset = 23
    for _ in range(configuration[22]):
        kind, count = configuration[offset] & 63, int.from_bytes(configuration[offset + 1 : offset + 3])
        offset += 3
        for _ in range(count):
            if offset + 2 > len(configuration):
                raise ValueError("its configuration is truncated")
            size = int.from_bytes(configuration[offset : offset + 2])
            unit = configuration[offset + 2 : offset + 2 + size]
            offset += 2 + size
            _read_parameters(parameters, kind, unit)
    offset = 0
    while offset + length_bytes < len(data):
        size = int.from_bytes(data[offset : offset + length_bytes])
        unit = data[offset + length_bytes : offset + length_bytes + min(size, 4096)]
        kind = unit[0] >> 1 & 63 if unit else 63
        _read_parameters(parameters, kind, unit)
        if kind < 32:
            return _read_slice(kind, _bits(unit), parameters)
        offset += length_bytes + size
    raise ValueError("it has no picture")


def _bits(unit: bytes) -> BitReader:
    """The payload of a NAL unit, without its header and the bytes that prevent start codes."""
    return BitReader(unit[2:4096].replace(b"\0\0\3", b"\0\0"))


def _read_parameters(parameters: _Parameters, kind: int, unit: bytes) -> None:
    if kind == _SPS:
        _read_sps(parameters, _bits(unit))
    elif kind == _PPS:
        _read_pps(parameters, _bits(unit))
    parameters.sets.add(kind)


def _read_sps(parameters: _Parameters, bits: BitReader) -> None:
    bits.unsigned(4)
    sub_layers = bits.unsigned(3)
    bits.flag()
    if sub_layers:
        raise ValueError("it has temporal layers")
    bits.unsigned(96)  # profile and level
    bits.golomb()
    chroma = bits.golomb()
    parameters.is_monochrome = chroma == 0
    parameters.separate_planes = chroma == 3 and bits.flag()
    bits.golomb(), bits.golomb()
    if bits.flag():
        for _ in range(4):
            bits.golomb()
    bits.golomb(), bits.golomb(), bits.golomb()
    bits.flag()
    for _ in range(3 + 6):  # buffers, block sizes
        bits.golomb()
    if bits.flag() and bits.flag():
        _skip_scaling_lists(bits, chroma)
    bits.flag()
    parameters.has_sample_offset = bits.flag()


def _skip_scaling_lists(bits: BitReader, chroma: int) -> None:
    for size in range(4):
        for _ in range(0, 6, 3 if size == 3 else 1):
            if not bits.flag():
                bits.golomb()
                continue
            if size > 1:
                bits.golomb()
            for _ in range(min(64, 1 << 4 + 2 * size)):
                bits.golomb()


def _read_pps(parameters: _Parameters, bits: BitReader) -> None:
    bits.golomb(), bits.golomb()
    bits.flag()
    parameters.has_output_flag = bits.flag()
    parameters.extra_bits = bits.unsigned(3)
    bits.unsigned(2)
    bits.golomb(), bits.golomb()
    parameters.initial_qp = 26 + bits.signed_golomb()


def _read_slice(kind: int, bits: BitReader, parameters: _Parameters) -> int:
    if kind not in _IDR or not parameters.sets >= {_SPS, _PPS} or not bits.flag():
        raise ValueError("it does not begin with an independent picture")
    bits.flag()
    bits.golomb()
    bits.unsigned(parameters.extra_bits)
    if bits.golomb() != _I_SLICE:
        raise ValueError("it depends on other pictures")
    if parameters.has_output_flag:
        bits.flag()
    if parameters.separate_planes:
        bits.unsigned(2)
    if parameters.has_sample_offset:
        bits.flag()
        if not parameters.is_monochrome and not parameters.separate_planes:
            bits.flag()
    return parameters.initial_qp + bits.signed_golomb()
