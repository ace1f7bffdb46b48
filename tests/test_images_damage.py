"""Damaged and truncated image files are refused, and a false header costs neither time nor memory."""

import io
import logging
import re
import resource
import struct
import subprocess
import sys
import time
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from image_files import png, png_chunk, smooth_image
from memory import PEAK_CODE, needs_peak
from subpixel.errors import UnreadableImage, UnsupportedImage
from subpixel.images.read import read

EOI = b"\xff\xd9"


def approve_all(header):
    """Accept any size."""


def jpeg(image, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", **options)
    return file.getvalue()


def with_size(data, width, height):
    """A JPEG file with another size in its frame header."""
    offset = re.search(rb"\xff[\xc0\xc2]", data).start()
    return data[: offset + 5] + struct.pack(">HH", height, width) + data[offset + 9 :]


def assert_refused(tmp_path, data):
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(UnreadableImage, match=r"a\.jpg: the JPEG file is damaged"):
        read(path, approve_all)


class TestJpeg:
    @pytest.mark.parametrize("progressive", [False, True])
    @pytest.mark.parametrize("claimed", [(1000, 1000), (104, 64), (96, 72), (9600, 64)])
    def test_fewer_pixels_than_the_header_says(self, tmp_path, claimed, progressive):
        assert_refused(tmp_path, with_size(jpeg(smooth_image(64, 96), progressive=progressive), *claimed))

    @pytest.mark.parametrize("progressive", [False, True])
    def test_small_file_with_a_large_size_costs_little(self, tmp_path, progressive):
        needs_peak()
        path = tmp_path / "a.jpg"
        path.write_bytes(with_size(jpeg(smooth_image(64, 96), progressive=progressive), 16_000, 16_000))
        code = (
            PEAK_CODE + "import sys, pathlib\n"
            "from subpixel.errors import UnreadableImage\n"
            "from subpixel.images.read import read\n"
            "try:\n    read(pathlib.Path(sys.argv[1]), lambda header: None)\n"
            "except UnreadableImage:\n    print(peak_kib())\n"
        )
        started = time.process_time(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
        assert int(done.stdout) < 200_000, "KiB, where the pixels alone would take 750,000"
        assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - started[1] < 5

    @pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.9])
    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}], ids=str)
    def test_truncated_with_an_end_marker(self, tmp_path, options, share):
        data = jpeg(smooth_image(256, 384), quality=95, **options)
        start = data.index(b"\xff\xda") + 14
        for end in (EOI, b""):
            assert_refused(tmp_path, data[: start + int((len(data) - start) * share)] + end)

    def test_truncated_after_any_scan_of_a_progressive_file(self, tmp_path):
        data = jpeg(smooth_image(64, 96), progressive=True)
        scans = [found.start() for found in re.finditer(rb"\xff\xda", data)]
        assert len(scans) > 5
        for start in scans[1:]:
            # A scan follows its tables, so the previous scan ends where the last table begins.
            assert_refused(tmp_path, data[: max(data.rindex(b"\xff\xc4", 0, start), scans[0] + 20)] + EOI)

    def test_bytes_missing_in_the_middle(self, tmp_path):
        data = jpeg(smooth_image(256, 384), quality=95)
        middle = len(data) // 2
        assert_refused(tmp_path, data[:middle] + b"\xff\xd0\xff\xd3" + data[middle + 4 :])

    def test_only_the_end_marker_missing(self, tmp_path):
        """All pixels are there."""
        data = jpeg(smooth_image(64, 96))
        (tmp_path / "a.jpg").write_bytes(data[:-2])
        expected = np.asarray(Image.open(io.BytesIO(data)))
        np.testing.assert_array_equal(read(tmp_path / "a.jpg", approve_all).samples, expected)

    def test_decoded_once(self, tmp_path, monkeypatch):
        from subpixel.images.codecs import vips

        calls = []
        decode = vips.decode
        monkeypatch.setattr(vips, "decode", lambda *arguments: calls.append(arguments) or decode(*arguments))
        (tmp_path / "a.jpg").write_bytes(jpeg(smooth_image()))
        read(tmp_path / "a.jpg", approve_all)
        assert len(calls) == 1
        assert "av" not in {name.partition(".")[0] for name in vars(vips)}

    def test_lossless_jpeg_is_named(self, tmp_path):
        (tmp_path / "a.jpg").write_bytes(bytes(imagecodecs.ljpeg_encode(smooth_image(channels=1))))
        with pytest.raises(UnsupportedImage, match=r"a\.jpg: is a lossless or hierarchical JPEG; convert"):
            read(tmp_path / "a.jpg", approve_all)


class TestOthers:
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.97])
    @pytest.mark.parametrize("lossless", [False, True])
    def test_webp(self, tmp_path, lossless, share):
        file = io.BytesIO()
        Image.fromarray(smooth_image(64, 96)).save(file, "WebP", lossless=lossless)
        data = file.getvalue()[: int(len(file.getvalue()) * share)]
        (tmp_path / "a.webp").write_bytes(data)
        with pytest.raises(UnreadableImage, match="the WebP file is damaged"):
            read(tmp_path / "a.webp", approve_all)

    @pytest.mark.parametrize("interlaced", [0, 1])
    def test_png_with_fewer_rows_than_the_header_says(self, tmp_path, interlaced):
        path = tmp_path / "a.png"
        path.write_bytes(png((64, 64, 8, 0, interlaced), [bytes(64)] * 40))
        with pytest.raises(UnreadableImage, match="the PNG file is damaged"):
            read(path, approve_all)

    @pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "zstd", "jpeg"])
    @pytest.mark.parametrize("options", [{"rowsperstrip": 16}, {"tile": (16, 16)}], ids=str)
    def test_tiff_with_a_strip_that_is_too_short(self, tmp_path, compression, options):
        """The file is complete; only the last strip has too few bytes."""
        path = tmp_path / "a.tif"
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        tifffile.imwrite(path, noise, photometric="rgb", compression=compression, metadata=None, **options)
        with tifffile.TiffFile(path) as tiff:
            counts = list(tiff.pages.first.databytecounts)
            name = "TileByteCounts" if "tile" in options else "StripByteCounts"
            tag = tiff.pages.first.tags[name]
            offset, size = tag.valueoffset, tag.dtype.name
        width = {"SHORT": 2, "LONG": 4}[size]
        counts[-1] //= 2
        data = bytearray(path.read_bytes())
        data[offset : offset + width * len(counts)] = np.array(counts, f"<u{width}").tobytes()
        path.write_bytes(data)
        with pytest.raises(UnreadableImage, match=r"a\.tif: the TIFF file is damaged"):
            read(path, approve_all)

    def test_tiff_with_an_empty_strip(self, tmp_path):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, smooth_image(64, 64), photometric="rgb", compression="zlib", rowsperstrip=16)
        with tifffile.TiffFile(path, mode="r+") as tiff:
            counts = list(tiff.pages.first.databytecounts)
            tiff.pages.first.tags["StripByteCounts"].overwrite([*counts[:-1], 0])
        with pytest.raises(UnreadableImage, match="pixels are missing"):
            read(path, approve_all)

    @pytest.mark.parametrize("mode", ["1", "P", "RGB"])
    def test_bmp(self, tmp_path, mode):
        file = io.BytesIO()
        Image.fromarray(smooth_image(64, 96)).convert(mode).save(file, "BMP")
        (tmp_path / "a.bmp").write_bytes(file.getvalue()[:-97])
        with pytest.raises(UnreadableImage, match="the BMP file is damaged"):
            read(tmp_path / "a.bmp", approve_all)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(5, "Input/output error")], ids=repr)
@pytest.mark.parametrize("after", [0, 2])
def test_errors_while_reading_are_not_reported_as_damage(tmp_path, capfd, error, after):
    """Ctrl-C, or a disk error."""
    from subpixel.images.codecs.vips import decode

    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    data = io.BytesIO(bytes(imagecodecs.png_encode(noise)))
    third = len(data.getvalue()) // 3
    spans = [(0, third), (third, third), (2 * third, third + 2)]

    class Failing(io.RawIOBase):
        reads = 0

        def seek(self, *offset):
            return data.seek(*offset)

        def read(self, size=-1):
            self.reads += 1
            if self.reads > after:
                raise error
            return data.read(size)

    with pytest.raises(type(error)):
        decode("pngload", Failing(), spans)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("pyvips_first", [False, True])
def test_a_program_that_uses_pyvips_too(tmp_path, pyvips_first):
    """Both use the same library: neither prints its warnings, nor does one end the other."""
    data = jpeg(smooth_image(64, 96))
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2] + b"\xff\xd9")
    (tmp_path / "b.jpg").write_bytes(data)
    code = (
        "import pathlib, sys\n"
        + ("import pyvips\n" if pyvips_first else "")
        + "from subpixel.images.read import read\n"
        "from subpixel.errors import UnreadableImage\n"
        "import pyvips\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        read(pathlib.Path('a.jpg'), lambda header: None)\n"
        "        sys.exit('not refused')\n"
        "    except UnreadableImage:\n"
        "        pass\n"
        "    assert pyvips.Image.new_from_file('b.jpg').numpy().shape == (64, 96, 3)\n"
        "    assert read(pathlib.Path('b.jpg'), lambda header: None).samples.shape == (64, 96, 3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


class TestMessages:
    """Errors have our own messages: none of a library, no log records, nothing from C on stderr."""

    FOREIGN = re.compile(r"Error\(|codec can't|unpack|Vips|vips|libpng|out of range|index|NoneType|0x|\n")

    def damaged(self):
        rng = np.random.default_rng(0)
        sources = {
            "jpg": jpeg(smooth_image()),
            "png": bytes(imagecodecs.png_encode(smooth_image())),
            "bmp": self.saved("BMP"),
            "webp": self.saved("WebP"),
            "tif": self.saved("TIFF", compression="jpeg"),
        }
        sources["fax.tif"] = self.saved("TIFF", mode="1", compression="group4")
        sources["lzw.tif"] = self.saved("TIFF", compression="tiff_lzw")
        for name, data in sources.items():
            for _ in range(25):
                changed = bytearray(data)
                for offset in rng.integers(4, len(data), 8):
                    changed[offset] = rng.integers(256)
                yield name, bytes(changed)
            for end in rng.integers(4, len(data), 8):
                yield name, data[:end]

    @staticmethod
    def saved(format, mode="RGB", **options):
        file = io.BytesIO()
        Image.fromarray(smooth_image()).convert(mode).save(file, format, **options)
        return file.getvalue()

    def test_messages_of_damaged_files(self, tmp_path, caplog, capfd):
        refusals = []

        def not_too_large(header):
            if header.width * header.height > 1e6:
                raise UnsupportedImage("too large")

        for name, data in self.damaged():
            path = tmp_path / name
            path.write_bytes(data)
            try:
                read(path, not_too_large)
            except (UnreadableImage, UnsupportedImage) as error:
                refusals.append(str(error).removeprefix(f"{path}: "))
        assert len(refusals) > 100
        assert not [words for words in refusals if self.FOREIGN.search(words)]
        assert not [record for record in caplog.records if record.levelno >= logging.INFO]
        captured = capfd.readouterr()
        assert (captured.out, captured.err) == ("", "")

    def test_small_interlaced_png_causes_no_output(self, tmp_path, caplog, capfd):
        ihdr = struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 1)
        passes = [
            (1, 1),
            (1, 1),
            (2, 1),
            (2, 2),
            (4, 2),
        ]  # the passes that are not empty
        raw = b"".join((b"\0" + bytes(width)) * count for width, count in passes)
        data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", ihdr) + png_chunk(b"IDAT", zlib.compress(raw))
        (tmp_path / "a.png").write_bytes(data + png_chunk(b"IEND", b""))
        assert read(tmp_path / "a.png", approve_all).samples.shape == (4, 4)
        assert not caplog.records
        assert capfd.readouterr().err == ""


def test_reading_in_a_forked_process(tmp_path):
    """libvips hangs there if its thread pool was used before the fork."""
    files = {
        "a.jpg": jpeg(smooth_image(300, 400)),
        "a.png": bytes(imagecodecs.png_encode(smooth_image(300, 400))),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    code = (
        "import os, pathlib, sys\n"
        "from subpixel.images.read import read\n"
        "paths = [pathlib.Path(name) for name in sys.argv[1:]]\n"
        "before = [read(path, lambda header: None).samples.sum() for path in paths]\n"
        "child = os.fork()\n"
        "after = [read(path, lambda header: None).samples.sum() for path in paths]\n"
        "assert before == after\n"
        "if child == 0:\n    os._exit(0)\n"
        "sys.exit(os.waitpid(child, 0)[1])\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, *(str(tmp_path / name) for name in files)]
    assert subprocess.run(command, timeout=300).returncode == 0
