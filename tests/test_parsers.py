"""Parsers accept input that Hypothesis damages, or raise an error that their callers expect."""

import contextlib
import struct
import tempfile
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from parsers import PARSERS
from subpixel.cli.upscale import _seconds
from subpixel.images import exif
from subpixel.images.compression import lossy_quality
from subpixel.images.formats import JPEG, WEBP
from subpixel.images.read import read

SEEDS = {name: parser.seeds() for name, parser in PARSERS.items()}


@st.composite
def damaged(draw, seeds):
    """Valid input with some bytes replaced, inserted, removed or cut off."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        offset = draw(st.integers(0, len(data)))
        piece = draw(st.binary(max_size=8) | st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff"]))
        how = draw(st.sampled_from(["replace", "insert", "remove", "cut"]))
        if how == "cut":
            del data[offset:]
        elif how == "remove":
            del data[offset : offset + len(piece)]
        else:
            data[offset : offset + len(piece) * (how == "replace")] = piece
    return bytes(data)


@pytest.mark.parametrize("name", PARSERS)
def test_seeds_are_valid(name):
    assert all(PARSERS[name].accepts(seed) for seed in SEEDS[name])


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
def test_damaged_input_is_accepted_or_refused(name, data):
    PARSERS[name].accepts(data.draw(damaged(SEEDS[name])))


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_accepted_or_refused(name, data):
    PARSERS[name].accepts(data)


def test_a_fault_of_a_parser_is_raised():
    def fails(data):
        raise KeyError(data)

    with pytest.raises(KeyError):
        PARSERS["time"]._replace(parse=fails).accepts(b"")


@pytest.mark.parametrize("tag", [0x0112, 0xA002, 0x0100])
def test_truncated_exif_is_dropped_and_the_image_read(tmp_path, tag):
    """The entry has several values, so reading the entry itself does not fail."""
    entry = struct.pack("<HHI", tag, 3, 2)  # its value is cut off
    block = b"II*\0" + struct.pack("<IH", 8, 1) + entry
    with pytest.raises(ValueError, match="beyond its end"):
        exif.update_exif(block, 9, 7)
    file = tmp_path / "in.jpg"
    Image.new("L", (9, 7)).save(file, exif=b"Exif\0\0" + block)
    image = read(file, lambda header: None)
    assert image.warnings == ["its EXIF data is damaged and was dropped (an offset points beyond its end)"]


def test_quality_of_a_jpeg_with_damaged_exif_is_read_without_a_warning(tmp_path):
    file = tmp_path / "in.jpg"
    cut_off = b"II*\0" + struct.pack("<IH", 8, 9)  # lacks the nine entries that it counts
    Image.new("RGB", (9, 7)).save(file, quality=60, exif=b"Exif\0\0" + cut_off)
    file.write_bytes(file.read_bytes().replace(b"JFIF", b"    ", 1))  # without JFIF, Pillow reads the EXIF
    assert lossy_quality(file) == (JPEG, pytest.approx(60, abs=1))


@given(
    quality=st.integers(25, 100),  # below, the table ends at 255
    gray=st.booleans(),
    sides=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_jpeg_quality_equals_that_of_the_encoder(quality, gray, sides):
    file = BytesIO()
    Image.new("L" if gray else "RGB", sides).save(file, "JPEG", quality=quality)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.jpg"
        path.write_bytes(file.getvalue())
        format_, found = lossy_quality(path)
    assert format_ is JPEG
    assert found == pytest.approx(quality, abs=1)


@given(
    quality=st.integers(0, 100),
    sides=st.tuples(st.integers(1, 16), st.integers(1, 16)),
    value=st.integers(0, 255),
)
def test_webp_quality_equals_that_of_the_encoder(quality, sides, value):
    """One macroblock has one quantizer; in larger images libwebp adapts quantizers to the content."""
    file = BytesIO()
    Image.fromarray(np.full((*sides, 3), value, np.uint8)).save(file, "WEBP", quality=quality)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.webp"
        path.write_bytes(file.getvalue())
        format_, found = lossy_quality(path)
    assert format_ is WEBP
    assert found == pytest.approx(quality, abs=2.5)  # a step of the quantizer


@given(hours=st.integers(0, 10**4), minutes=st.integers(0, 59), thousandths=st.integers(0, 59_999))
def test_times_are_parsed(hours, minutes, thousandths):
    seconds = Fraction(thousandths, 1000)
    written = f"{thousandths // 1000}.{thousandths % 1000:03}"
    assert _seconds(f"{hours}:{minutes:02}:{written}") == 3600 * hours + 60 * minutes + seconds
    assert _seconds(f"{minutes}:{written}") == 60 * minutes + seconds
    assert _seconds(f" {written} ") == seconds


@given(text=st.text(alphabet="0123456789:.-+e _/", max_size=12))
def test_accepted_times_are_valid(text):
    seconds = None
    with contextlib.suppress(ValueError):
        seconds = _seconds(text)
    if seconds is not None:
        assert seconds == sum(
            Fraction(part.strip()) * 60**exponent for exponent, part in enumerate(text.split(":")[::-1])
        )
