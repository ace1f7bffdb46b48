"""Reads the boxes of HEIF files, which HEIC and AVIF are (ISO/IEC 23008-12, and 14496-12 for boxes)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

_MAX_META_BYTES = 1 << 25
_MAX_ITEM_BYTES = 1 << 25
"""Limit of metadata, such as EXIF."""
_MAX_ITEMS = 20_000
_CONFIGURATIONS = (b"hvcC", b"av1C")
_TOP_LEVEL = (b"meta", b"moov", b"ftyp")


@dataclass
class Item:
    """An image or a block of metadata in the file."""

    type: bytes = b""
    content_type: bytes = b""
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Type and body of its property boxes, in order."""
    references: list[tuple[bytes, list[int]]] = field(default_factory=list)
    """Type, and the items to which it refers."""
    extents: list[tuple[int, int]] = field(default_factory=list)
    """Offset and length of the parts of its data; a length of 0 goes to the end of the file."""
    construction: int = 0
    """Whether offsets count from the start of the file (0), or of the idat box (1)."""
    hidden: bool = False

    def find(self, name: bytes) -> bytes | None:
        """The body of its first property of a type, or None."""
        return next((body for found, body in self.properties if found == name), None)


@dataclass
class Container:
    """The items of a HEIF file."""

    path: Path
    brands: tuple[bytes, ...] = ()
    primary_id: int = 0
    items: dict[int, Item] = field(default_factory=dict)
    idat: bytes = b""
    has_sequence: bool = False
    """Whether it has a track: an animation, or a burst."""

    @property
    def primary(self) -> Item:
        """The image that viewers show. Raises ``ValueError`` if there is none."""
        if self.primary_id not in self.items:
            raise ValueError("it has no primary image")
        return self.items[self.primary_id]

    def referring(self, name: bytes, target: int) -> Iterator[tuple[int, Item]]:
        """Items that refer to an item by a reference of this type."""
        for number, item in self.items.items():
            if any(kind == name and target in targets for kind, targets in item.references):
                yield number, item

    def data(self, item: Item, limit: int = _MAX_ITEM_BYTES) -> bytes:
        """Read the data of an item, at most ``limit`` bytes."""
        parts = []
        with self.path.open("rb") as file:
            for offset, length in item.extents:
                wanted = min(length or limit, limit)
                if item.construction == 1:
                    parts.append(self.idat[offset : offset + wanted])
                else:
                    file.seek(offset)
                    parts.append(file.read(wanted))
                limit -= len(parts[-1])
                if limit <= 0:
                    break
        return b"".join(parts)

    def coded_item(self, item: Item) -> Item:
        """The item itself, or the first tile of a derived image, which has the codec's configuration."""
        for _ in range(4):
            if any(item.find(name) for name in _CONFIGURATIONS):
                break
            targets = next((to for name, to in item.references if name == b"dimg"), [])
            if not targets or targets[0] not in self.items:
                break
            item = self.items[targets[0]]
        return item


def read_container(path: Path) -> Container:
    """Read the boxes of a HEIC or AVIF file.

    Raises:
        ValueError: a box is malformed.
        OSError: the file cannot be read.
    """
    container = Container(path)
    with path.open("rb") as file:
        for name, body in _top_level(file):
            if name == b"ftyp":
                container.brands = (body[:4], *(body[at : at + 4] for at in range(8, len(body), 4)))
            elif name == b"moov":
                container.has_sequence = True
            elif not container.items:
                try:
                    _read_meta(container, body)
                except (struct.error, IndexError) as error:
                    raise ValueError("a box is truncated") from error
    return container


def _top_level(file: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """The boxes of the file that matter here. The body of ``moov`` is left out."""
    end = file.seek(0, 2)
    offset = 0
    while offset + 8 <= end:
        file.seek(offset)
        head = file.read(16)
        size, name = struct.unpack(">I4s", head[:8])
        start = 8
        if size == 1 and len(head) == 16:
            size, start = int.from_bytes(head[8:]), 16
        size = size or end - offset
        if size < start or offset + size > end:
            if name in _TOP_LEVEL:
                raise ValueError("a box is truncated")
            return
        if name in _TOP_LEVEL:
            if name != b"moov" and size > _MAX_META_BYTES:
                raise ValueError("a box is too large")
            file.seek(offset + start)
            yield name, b"" if name == b"moov" else file.read(size - start)
        offset += size


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and body of the boxes in the body of another."""
    offset = 0
    while offset + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, offset)
        start = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, offset + 8)
            start = 16
        size = size or len(data) - offset
        if size < start or offset + size > len(data):
            raise ValueError("a box is longer than the one around it")
        yield name, data[offset + start : offset + size]
        offset += size


class _Reader:
    """Reads the fields of a box."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    def unsigned(self, size: int) -> int:
        if self._offset + size > len(self._data):
            raise ValueError("a box is truncated")
        value = int.from_bytes(self._data[self._offset : self._offset + size])
        self._offset += size
        return value

    def raw(self, size: int) -> bytes:
        return self.unsigned(size).to_bytes(size)

    def text(self) -> bytes:
        """A string that ends in a zero, or with the box."""
        text, _, _ = self._data[self._offset :].partition(b"\0")
        self._offset = min(self._offset + len(text) + 1, len(self._data))
        return text

    @property
    def left(self) -> int:
        return len(self._data) - self._offset


def _read_meta(container: Container, body: bytes) -> None:
    children = dict(reversed([*boxes(body[4:])]))  # the first of each type counts
    items = container.items
    if b"pitm" in children:
        reader = _Reader(children[b"pitm"])
        container.primary_id = reader.unsigned(2 if reader.unsigned(4) >> 24 == 0 else 4)
    container.idat = children.get(b"idat", b"")
    if b"iinf" in children:
        reader = _Reader(children[b"iinf"])
        skipped = 6 if reader.unsigned(4) >> 24 == 0 else 8
        for name, entry in boxes(children[b"iinf"][skipped:]):
            if name == b"infe":
                _read_item(items, entry)
            if len(items) > _MAX_ITEMS:
                raise ValueError("it has too many items")
    if b"iloc" in children:
        _read_locations(items, _Reader(children[b"iloc"]))
    if b"iref" in children:
        _read_references(items, children[b"iref"])
    if b"iprp" in children:
        _read_properties(items, children[b"iprp"])


def _read_item(items: dict[int, Item], entry: bytes) -> None:
    reader = _Reader(entry)
    version_and_flags = reader.unsigned(4)
    version = version_and_flags >> 24
    if version < 2:
        return
    number = reader.unsigned(2 if version == 2 else 4)
    reader.unsigned(2)  # protection
    item = items[number] = Item(reader.raw(4), hidden=bool(version_and_flags & 1))
    reader.text()  # its name
    if item.type == b"mime":
        item.content_type = reader.text()


def _read_locations(items: dict[int, Item], reader: _Reader) -> None:
    version = reader.unsigned(4) >> 24
    sizes = reader.unsigned(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    number_size = 2 if version < 2 else 4
    for _ in range(reader.unsigned(number_size)):
        number = reader.unsigned(number_size)
        construction = reader.unsigned(2) & 15 if version in (1, 2) else 0
        data_reference = reader.unsigned(2)
        base = reader.unsigned(base_size)
        extents = []
        for _ in range(reader.unsigned(2)):
            if version in (1, 2):
                reader.unsigned(index_size)
            extents.append((base + reader.unsigned(offset_size), reader.unsigned(length_size)))
            if not (offset_size or length_size or index_size) and len(extents) > 1:
                raise ValueError("its items have no locations")
        if number in items and data_reference == 0:
            items[number].extents, items[number].construction = extents, construction


def _read_references(items: dict[int, Item], body: bytes) -> None:
    size = 2 if body[0] == 0 else 4
    for name, entry in boxes(body[4:]):
        reader = _Reader(entry)
        source = reader.unsigned(size)
        targets = [reader.unsigned(size) for _ in range(reader.unsigned(2))]
        if source in items:
            items[source].references.append((name, targets))


def _read_properties(items: dict[int, Item], body: bytes) -> None:
    properties: list[tuple[bytes, bytes]] = []
    for name, content in boxes(body):
        if name == b"ipco":
            properties = list(boxes(content))
        elif name == b"ipma":
            reader = _Reader(content)
            version_and_flags = reader.unsigned(4)
            long_index = version_and_flags & 1
            for _ in range(reader.unsigned(4)):
                number = reader.unsigned(2 if version_and_flags >> 24 == 0 else 4)
                for _ in range(reader.unsigned(1)):
                    index = reader.unsigned(2) & 0x7FFF if long_index else reader.unsigned(1) & 0x7F
                    if number in items and 0 < index <= len(properties):
                        items[number].properties.append(properties[index - 1])
