"""Every parser of ours as a function of bytes, with valid input to start from.

`test_parsers.py` feeds them what Hypothesis makes, and `fuzz/fuzz.py` what atheris makes. A parser takes its
input or raises an error that its callers expect. A fault is any other exception, a crash, or too much time or
memory.
"""

import json
import struct
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from safetensors.numpy import save

from subpixel.cli.upscale import _seconds
from subpixel.errors import ConfigError, ImageTooLarge, ModelError, SubpixelError
from subpixel.images import exif, photoshop
from subpixel.images.codecs import png_colors
from subpixel.images.compression import lossy_quality
from subpixel.images.read import read
from subpixel.models.file import open_tensors
from subpixel.models.model import load_model
from subpixel.models.networks import espcn
from subpixel.training.config import load_config
from subpixel.video.pipeline.segments import Journal

MOST_PIXELS = 1 << 16

_scratch = tempfile.TemporaryDirectory(prefix="subpixel-parsers-")


class Parser(NamedTuple):
    """One parser, the errors that it may raise, and valid input."""

    parse: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: Callable[[], list[bytes]]

    def accepts(self, data: bytes) -> bool:
        """Whether the input is valid. Raises what the parser raises unexpectedly."""
        try:
            self.parse(data)
        except self.errors:
            return False
        return True


def _file(data: bytes, name: str) -> Path:
    path = Path(_scratch.name) / name
    path.write_bytes(data)
    return path


def _picture(data: bytes) -> object:
    def approve(header):
        if header.width * header.height > MOST_PIXELS:
            raise ImageTooLarge("larger than a test needs")

    picture = read(_file(data, "picture"), approve)
    assert picture.samples.dtype in (np.uint8, np.uint16)
    assert picture.samples.shape[0] * picture.samples.shape[1] <= MOST_PIXELS
    return picture


def _quality(data: bytes) -> object:
    found = lossy_quality(_file(data, "quality"))
    assert found is None or found[1] <= 100
    return found


def _exif(data: bytes) -> object:
    exif.resolution(data)
    assert exif.mpf_frames(data) >= 0
    exif.orientation(data)
    result = exif.updated(data, 640, 480)
    assert len(result) == len(data)
    assert exif.updated(result, 640, 480) == result
    return result


def _xmp(data: bytes) -> object:
    assert 1 <= exif.xmp_orientation(data) <= 8
    assert exif.xmp_orientation(exif.updated_xmp(data)) == 1
    return exif.without_lost_parts(data)


def _photoshop(data: bytes) -> object:
    photoshop.has_paths(data)
    return photoshop.iptc(data)


def _png_color(data: bytes) -> object:
    """Of a cICP, or of a gAMA and a cHRM, by the first byte."""
    body = data[1:]
    chunks = {b"cICP": body} if data[:1] == b"c" else {b"gAMA": body[:4], b"cHRM": body[4:]}
    return png_colors.profile(chunks, gray=False)


def _model(data: bytes) -> object:
    path = _file(data, "x.safetensors")
    with open_tensors(path) as file:
        assert isinstance(file.metadata, dict)
    return load_model(path).digest()


def _config(data: bytes) -> object:
    return load_config(_file(data, "config.toml"))


def _time(data: bytes) -> object:
    seconds = _seconds(data.decode(errors="surrogateescape"))
    assert seconds >= 0
    return seconds


def _journal(data: bytes) -> object:
    folder = Path(_scratch.name) / "journal"
    folder.mkdir(exist_ok=True)
    (folder / "journal").write_bytes(data)
    Journal.outcome_of(folder, {"input": "abc"}, folder / "out.mkv")
    journal = Journal(folder, {"input": "abc"})
    try:
        return list(journal.packets())
    finally:
        journal.close()


def _pictures(format_: str, *modes: str, **options: object) -> Callable[[], list[bytes]]:
    def make() -> list[bytes]:
        rng = np.random.default_rng(0)
        result = []
        for mode in modes:
            large = Image.fromarray(rng.integers(0, 256, (7, 9, 3), np.uint8)).convert(mode)
            file = BytesIO()
            large.save(file, format_, **options)
            result.append(file.getvalue())
        return result

    return make


def _exif_block() -> bytes:
    block = Image.Exif()
    block[0x0112], block[0x011A], block[0x011B], block[0x010E] = 6, 72.0, 72.0, "a picture"
    block.get_ifd(0x8769).update({0xA002: 9, 0xA003: 7})
    return block.tobytes().removeprefix(b"Exif\0\0")


def _xmp_packet() -> bytes:
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" '
        b'xmlns:c="http://ns.google.com/photos/1.0/container/"><rdf:Description tiff:Orientation="6" '
        b'hdrgm:Version="1.0"><c:Directory><c:Item>x</c:Item></c:Directory></rdf:Description></x:xmpmeta>'
    )


def _models() -> list[bytes]:
    spec = espcn(2)
    weights = {name: np.full(shape, 0.1, np.float32) for name, shape in spec.shapes().items()}
    facts = {"version": "1", "psnr_db": {"Set5": 30.0}}
    metadata = {
        "format": "subpixel-model-1",
        "name": "x",
        "description": json.dumps(spec.to_json()),
        "facts": json.dumps(facts),
    }
    return [save(weights, metadata)]


def _journals() -> list[bytes]:
    folder = Path(_scratch.name) / "seed"
    journal = Journal(folder, {"input": "abc"})
    writer = journal.start(0)
    writer.write(b"packet", 0, 1, True)
    writer.keep(1)
    journal.finish({"frames": 1})
    journal.close()
    return [(folder / "journal").read_bytes()]


def _configs() -> list[bytes]:
    folder = Path(__file__).parents[1] / "configs"
    return [(folder / name).read_bytes() for name in ("espcn-t91-x3.toml", "default-x2.toml")]


_exifs = {"exif": _exif_block(), "dpi": (72, 72)}
_tiffs = _pictures("TIFF", "L", "RGB", "RGBA", "1", "CMYK", "I;16", dpi=(72, 72))
_jpegs = _pictures(
    "JPEG", "L", "RGB", "CMYK", exif=b"Exif\0\0" + _exif_block(), dpi=(72, 72), comment=b"seen"
)
_webps = _pictures("WEBP", "RGB", "RGBA", exif=_exif_block())
_jpeg_tiffs = _pictures("TIFF", "RGB", compression="jpeg")

PARSERS = {
    "png": Parser(
        _picture, (SubpixelError,), _pictures("PNG", "L", "RGB", "RGBA", "P", "1", "I;16", **_exifs)
    ),
    "jpeg": Parser(_picture, (SubpixelError,), _jpegs),
    "webp": Parser(_picture, (SubpixelError,), _webps),
    "tiff": Parser(_picture, (SubpixelError,), _tiffs),
    "bmp": Parser(_picture, (SubpixelError,), _pictures("BMP", "L", "RGB", "P", "1")),
    "quality": Parser(_quality, (), lambda: [*_jpegs(), *_webps(), *_jpeg_tiffs()]),
    "exif": Parser(_exif, (ValueError,), lambda: [_exif_block()]),
    "xmp": Parser(_xmp, (), lambda: [_xmp_packet()]),
    "photoshop": Parser(_photoshop, (), lambda: [photoshop.resources_of(b"\x1c\x02\x05\0\x05title")]),
    "png-color": Parser(
        _png_color,
        (),
        lambda: [b"c\x09\x10\0\x01", b"g" + struct.pack(">I", 50_000) + struct.pack(">8I", *range(8))],
    ),
    "model": Parser(_model, (ModelError,), _models),
    "config": Parser(_config, (ConfigError,), _configs),
    "time": Parser(_time, (ValueError,), lambda: [b"90", b"1:30", b"0:01:30.5"]),
    "journal": Parser(_journal, (SubpixelError,), _journals),
}
