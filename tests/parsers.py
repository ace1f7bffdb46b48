"""All parsers of the project as functions of bytes, with valid input to start from.

`test_parsers.py` gives them input from Hypothesis, `fuzz/fuzz.py` input from atheris. A parser accepts its
input or raises an error that its callers expect. A fault is any other exception, a crash, or too much time or
memory.
"""

import json
import struct
import tempfile
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import av
import imagecodecs
import numpy as np
from PIL import Image
from safetensors.numpy import save

from subpixel.cli.upscale import _seconds
from subpixel.errors import ConfigError, ImageTooLarge, ModelError, SubpixelError
from subpixel.images import av1, exif, heif, hevc, photoshop
from subpixel.images.animations.open import open_animation
from subpixel.images.codecs import gain_map, jpeg_file, png_colors
from subpixel.images.compression import lossy_quality
from subpixel.images.heif_description import describe
from subpixel.images.jxl_header import read_header
from subpixel.images.read import read
from subpixel.models.file import open_tensors
from subpixel.models.model import load_model
from subpixel.models.networks import espcn
from subpixel.models.spec import Convolution, History, ModelSpec
from subpixel.storage.local import LocalStorage
from subpixel.training.config_file import load_config
from subpixel.video.media.access_points import classifier
from subpixel.video.media.codecs import normal_scheduling
from subpixel.video.media.index import PacketIndex
from subpixel.video.pipeline.segments import SegmentFolder

MAX_PIXELS = 1 << 16

_scratch = tempfile.TemporaryDirectory(prefix="subpixel-parsers-")


class Parser(NamedTuple):
    """One parser, the errors that it may raise, and valid input."""

    parse: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: Callable[[], list[bytes]]

    def accepts(self, data: bytes) -> bool:
        """Whether the parser accepts the input. Raises its unexpected errors."""
        try:
            self.parse(data)
        except self.errors:
            return False
        return True


def _file(data: bytes, name: str) -> Path:
    path = Path(_scratch.name) / name
    path.write_bytes(data)
    return path


def _image(data: bytes) -> object:
    def approve(header):
        if header.width * header.height > MAX_PIXELS:
            raise ImageTooLarge("larger than a test needs")

    image = read(_file(data, "image"), approve)
    assert image.samples.dtype in (np.uint8, np.uint16)
    assert image.samples.shape[0] * image.samples.shape[1] <= MAX_PIXELS
    return image


def _animation(data: bytes) -> object:
    animation = open_animation(_file(data, "animation"))
    if animation is None:
        raise ImageTooLarge("not an animation")
    header = animation.header
    if header.width * header.height > MAX_PIXELS:
        raise ImageTooLarge("larger than a test needs")
    frames = [frame.samples for frame in animation.read_frames()]
    assert len(frames) == animation.frames
    assert all(frame.shape[:2] == (header.height, header.width) for frame in frames)
    return frames


def _quality(data: bytes) -> object:
    found = lossy_quality(_file(data, "quality"))
    assert found is None or found[1] is None or found[1] <= 100
    return found


def _heif(data: bytes) -> object:
    found = describe(heif.read_container(_file(data, "boxes")))
    assert found.width > 0 and found.height > 0
    return found


def _jxl_header(data: bytes) -> object:
    return read_header(_file(data, "header.jxl"))


def _gain_map(data: bytes) -> object:
    exif.mpf_images(data[4:])
    return gain_map.find(data, jpeg_file.parse(data))


def _av1(data: bytes) -> object:
    assert 0 <= av1.base_q_idx(data) <= 255
    return True


def _hevc(data: bytes) -> object:
    """The first two bytes are the size of the configuration."""
    size = int.from_bytes(data[:2])
    return hevc.quantization_parameter(data[2 : 2 + size], data[2 + size :])


def _exif(data: bytes) -> object:
    exif.resolution(data)
    assert exif.mpf_image_count(data) >= 0
    exif.orientation(data)
    result = exif.update_exif(data, 640, 480)
    assert len(result) == len(data)
    assert exif.update_exif(result, 640, 480) == result
    return result


def _xmp(data: bytes) -> object:
    assert 1 <= exif.xmp_orientation(data) <= 8
    assert exif.xmp_orientation(exif.update_xmp(data)) == 1
    return exif.remove_dropped_parts(data)


def _photoshop(data: bytes) -> object:
    photoshop.has_clipping_paths(data)
    return photoshop.read_iptc(data)


def _png_color(data: bytes) -> object:
    """The first byte selects cICP, or gAMA and cHRM."""
    body = data[1:]
    chunks = {b"cICP": body} if data[:1] == b"c" else {b"gAMA": body[:4], b"cHRM": body[4:]}
    return png_colors.icc_profile(chunks, gray=False)


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


def _segment(data: bytes) -> object:
    folder = Path(_scratch.name) / "job"
    segments = SegmentFolder(LocalStorage(folder), {"input": "abc"})
    segments.close()
    file = folder / segments.file(0)
    for name in ("outcome", "choices", "fingerprint", file.name):
        (file.parent / name).write_bytes(data)
    segments = SegmentFolder(LocalStorage(folder), {"input": "abc"})
    try:
        return segments.pin({"threads": 1}), list(segments.packets())
    finally:
        segments.close()


def _images(format_: str, *modes: str, **options: object) -> Callable[[], list[bytes]]:
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
    block[0x0112], block[0x011A], block[0x011B], block[0x010E] = 6, 72.0, 72.0, "an image"
    block.get_ifd(0x8769).update({0xA002: 9, 0xA003: 7})
    return block.tobytes().removeprefix(b"Exif\0\0")


def _xmp_packet() -> bytes:
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" '
        b'xmlns:c="http://ns.google.com/photos/1.0/container/"><rdf:Description tiff:Orientation="6" '
        b'hdrgm:Version="1.0"><c:Directory><c:Item>x</c:Item></c:Directory></rdf:Description></x:xmpmeta>'
    )


def _noise(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 9, channels), np.uint8)


def _heics() -> list[bytes]:
    import pillow_heif

    result = []
    for mode, channels in (("RGB", 3), ("RGBA", 4)):
        file = BytesIO()
        pillow_heif.from_bytes(mode, (9, 7), _noise(channels).tobytes()).save(file, exif=_exif_block())
        result.append(file.getvalue())
    return result


def _jxls() -> list[bytes]:
    exif_box = struct.pack(">I4s4x", 12 + len(_exif_block()), b"Exif") + _exif_block()
    options: list[dict[str, object]] = [{"lossless": True}, {"distance": 2.0}]
    files = [bytes(imagecodecs.jpegxl_encode(_noise(), usecontainer=True, **each)) for each in options]
    return [*files, files[0][:32] + exif_box + files[0][32:]]


def _ultra_hdr() -> list[bytes]:
    light = np.full((16, 16, 4), 1, np.float16)
    return [bytes(imagecodecs.ultrahdr_encode(light))]


def _items(files: list[bytes]) -> list[tuple[bytes, bytes]]:
    """The configuration and the data of the primary images."""
    result = []
    for data in files:
        container = heif.read_container(_file(data, "seed.heif"))
        item = container.coded_item(container.primary)
        result.append((item.find(b"hvcC") or b"", container.data(item)))
    return result


def _models() -> list[bytes]:
    single = espcn(2)
    history = History((Convolution(8, 4, 3, "relu"), Convolution(4, 7, 3)), state=2)
    return [_model_file(spec) for spec in (single, replace(single, history=history))]


def _model_file(spec: ModelSpec) -> bytes:
    weights = {name: np.full(shape, 0.1, np.float32) for name, shape in spec.shapes().items()}
    facts = {"version": "1", "psnr_db": {"Set5": 30.0}}
    metadata = {
        "format": "subpixel-model-1",
        "name": "x",
        "description": json.dumps(spec.to_json()),
        "facts": json.dumps(facts),
    }
    return save(weights, metadata)


def _segments() -> list[bytes]:
    folder = Path(_scratch.name) / "seed"
    segments = SegmentFolder(LocalStorage(folder), {"input": "abc"})
    writer = segments.start_segment(0)
    writer.write(b"packet", 0, 1, True)
    writer.commit(1)
    segments.record_outcome({"frames": 1})
    segments.close()
    return [(folder / segments.file(0)).read_bytes(), (folder / segments.prefix / "outcome").read_bytes()]


_PACKET_CODECS: dict[str, dict[str, str]] = {
    **{name: {} for name in ("libx264", "mpeg2video", "mpeg4", "flv", "wmv2", "libvpx", "libvpx-vp9")},
    "libx265": {"x265-params": "log-level=error"},
    "libsvtav1": {"svtav1-params": "lp=1"},
}


def _packet(data: bytes) -> object:
    """The first byte chooses the codec."""
    name = av.Codec([*_PACKET_CODECS][data[0] % len(_PACKET_CODECS)], "w").canonical_name
    codec = classifier(name)
    assert codec is not None
    return codec.access(data[1:]), codec.parameters(data[1:])


@normal_scheduling()
def _packets() -> list[bytes]:
    seeds = []
    for number, (name, options) in enumerate(_PACKET_CODECS.items()):
        codec = av.CodecContext.create(name, "w")
        codec.width, codec.height, codec.pix_fmt, codec.framerate = 64, 64, "yuv420p", 25
        codec.time_base = Fraction(1, 25)
        codec.options = {"g": "4", **options}
        for shade in range(8):
            frame = av.VideoFrame.from_ndarray(np.full((96, 64), 20 * shade, np.uint8), "yuv420p")
            frame.pts, frame.time_base = shade, Fraction(1, 25)
            seeds += [bytes([number]) + bytes(packet) for packet in codec.encode(frame)]
        seeds += [bytes([number]) + bytes(packet) for packet in codec.encode(None)]
    return seeds


def _indexes() -> list[bytes]:
    times = np.arange(9, dtype=np.int64)
    return [PacketIndex(times, times, times + 100, 1000 * times, times % 2).to_bytes()]


def _configs() -> list[bytes]:
    folder = Path(__file__).parents[1] / "configs"
    return [(folder / name).read_bytes() for name in ("espcn-t91-x3.toml", "default-x2.toml")]


_exifs = {"exif": _exif_block(), "dpi": (72, 72)}
_tiffs = _images("TIFF", "L", "RGB", "RGBA", "1", "CMYK", "I;16", dpi=(72, 72))
_jpegs = _images("JPEG", "L", "RGB", "CMYK", exif=b"Exif\0\0" + _exif_block(), dpi=(72, 72), comment=b"seen")
_webps = _images("WEBP", "RGB", "RGBA", exif=_exif_block())
_jpeg_tiffs = _images("TIFF", "RGB", compression="jpeg")

_avifs = _images("AVIF", "L", "RGB", "RGBA", exif=_exif_block())


def _animations() -> list[bytes]:
    images = [Image.new("RGBA", (12, 10), (9, 90, shade, shade)) for shade in (100, 200, 255)]
    files = []
    for format in ("GIF", "PNG", "WEBP"):
        file = BytesIO()
        images[0].save(file, format, save_all=True, append_images=images[1:], duration=40, loop=2)
        files.append(file.getvalue())
    return files


PARSERS = {
    "png": Parser(_image, (SubpixelError,), _images("PNG", "L", "RGB", "RGBA", "P", "1", "I;16", **_exifs)),
    "jpeg": Parser(_image, (SubpixelError,), _jpegs),
    "webp": Parser(_image, (SubpixelError,), _webps),
    "tiff": Parser(_image, (SubpixelError,), _tiffs),
    "bmp": Parser(_image, (SubpixelError,), _images("BMP", "L", "RGB", "P", "1")),
    "gif": Parser(_image, (SubpixelError,), _images("GIF", "L", "P")),
    "animation": Parser(_animation, (SubpixelError,), _animations),
    "avif": Parser(_image, (SubpixelError,), _avifs),
    "jxl": Parser(_image, (SubpixelError,), _jxls),
    "heic": Parser(_image, (SubpixelError,), _heics),
    "ultra-hdr": Parser(_image, (SubpixelError,), _ultra_hdr),
    "heif-boxes": Parser(_heif, (ValueError,), lambda: [*_avifs(), *_heics()]),
    "jxl-header": Parser(_jxl_header, (ValueError,), _jxls),
    "gain-map": Parser(_gain_map, (), _ultra_hdr),
    "av1": Parser(_av1, (ValueError,), lambda: [data for _, data in _items(_avifs())]),
    "hevc": Parser(
        _hevc,
        (ValueError, IndexError),
        lambda: [len(head).to_bytes(2) + head + data for head, data in _items(_heics())],
    ),
    "quality": Parser(
        _quality, (), lambda: [*_jpegs(), *_webps(), *_jpeg_tiffs(), *_avifs(), *_heics(), *_jxls()]
    ),
    "exif": Parser(_exif, (ValueError,), lambda: [_exif_block()]),
    "xmp": Parser(_xmp, (), lambda: [_xmp_packet()]),
    "photoshop": Parser(_photoshop, (), lambda: [photoshop.iptc_resource(b"\x1c\x02\x05\0\x05title")]),
    "png-color": Parser(
        _png_color,
        (),
        lambda: [b"c\x09\x10\0\x01", b"g" + struct.pack(">I", 50_000) + struct.pack(">8I", *range(8))],
    ),
    "model": Parser(_model, (ModelError,), _models),
    "config": Parser(_config, (ConfigError,), _configs),
    "time": Parser(_time, (ValueError,), lambda: [b"90", b"1:30", b"0:01:30.5"]),
    "packet": Parser(_packet, (ValueError, IndexError), _packets),
    "packet-index": Parser(PacketIndex.from_bytes, (ValueError,), _indexes),
    "segment": Parser(_segment, (SubpixelError,), _segments),
}
