"""A base install without imagecodecs, the extra `formats`: what it reads and writes, and what it says."""

import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from image_files import smooth_image
from subpixel.cli import app
from subpixel.errors import OutputError, UnsupportedImage
from subpixel.images.read import read, read_header
from subpixel.images.upscale import upscale_image

INSTALL = r"pip install 'subpixel\[formats\]'"


def run_without_imagecodecs(folder, code):
    """In a process of its own, since tifffile keeps what it has imported."""
    code = "import sys\nsys.modules['imagecodecs'] = None\n" + code
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_tiff(tmp_path):
    compressions = ("lzw", "zlib", "packbits", "lzma", "zstd", "jpegxl", "lerc")
    images = {
        f"{compression}-{np.dtype(dtype).name}": smooth_image(40, 50, dtype=dtype)
        for compression in compressions
        for dtype in (np.uint8, np.uint16)
    }
    for name, image in images.items():
        predictor = name.startswith(("lzw", "zlib"))
        tifffile.imwrite(
            tmp_path / f"{name}.tif",
            image,
            compression=name.split("-")[0],
            predictor=predictor,
            photometric="rgb",
        )
        np.save(tmp_path / f"{name}.npy", image)
    damaged = bytearray((tmp_path / "lzw-uint8.tif").read_bytes())
    damaged[300:400] = bytes(100)
    (tmp_path / "damaged.tif").write_bytes(damaged)
    code = """
from pathlib import Path
import numpy as np
from subpixel.images.read import read
for path in sorted(Path().glob("*.tif")):
    try:
        samples = read(path, lambda header: None).samples
    except Exception as error:
        print(type(error).__name__, error)
    else:
        print(path.stem, np.array_equal(samples, np.load(path.with_suffix(".npy"))))
"""
    lines = run_without_imagecodecs(tmp_path, code)
    read_by_others = [name for name in sorted(images) if not name.startswith(("zstd", "jpegxl", "lerc"))]
    assert [line for line in lines if line.endswith("True")] == [f"{name} True" for name in read_by_others]
    refused = {line.split("; ")[0] for line in lines if line.startswith("UnsupportedImage")}
    names = {"zstd": "ZSTD", "jpegxl": "JPEGXL", "lerc": "LERC"}
    assert refused == {
        f"UnsupportedImage {compression}-{depth}.tif: is compressed by {name}, which needs imagecodecs"
        for compression, name in names.items()
        for depth in ("uint8", "uint16")
    }
    assert len(lines) == len(images) + 1
    assert any(line.startswith("UnreadableImage damaged.tif: the TIFF file is damaged") for line in lines)


def test_other_formats_are_written(tmp_path):
    small = smooth_image(20, 24)
    Image.fromarray(small).save(tmp_path / "in.png")
    code = """
import subpixel
for name in ("png", "jpg", "webp", "tif", "bmp", "gif"):
    print(subpixel.upscale_image("in.png", "out." + name, scale=2, model="nearest").output)
"""
    assert len(run_without_imagecodecs(tmp_path, code)) == 6
    for name in ("png", "tif", "bmp"):
        with Image.open(tmp_path / f"out.{name}") as image:
            np.testing.assert_array_equal(np.asarray(image), small.repeat(2, 0).repeat(2, 1))
    with Image.open(tmp_path / "out.jpg") as image:
        error = np.asarray(image).astype(int) - small.repeat(2, 0).repeat(2, 1)
        assert np.abs(error).mean() < 2


@pytest.fixture
def without_imagecodecs(monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)


@pytest.mark.parametrize(("name", "format_name"), [("a.avif", "AVIF"), ("a.jxl", "JPEG XL")])
class TestAvifAndJxl:
    def test_read(self, tmp_path, monkeypatch, name, format_name):
        upscale_image(self.png(tmp_path), tmp_path / name, scale=2, model="nearest")
        monkeypatch.setitem(sys.modules, "imagecodecs", None)
        for reader in (lambda path: read(path, lambda header: None), read_header):  # the latter for --dry-run
            with pytest.raises(
                UnsupportedImage, match=f"{name}: {format_name} needs imagecodecs; run: {INSTALL}"
            ):
                reader(tmp_path / name)

    @pytest.mark.usefixtures("without_imagecodecs")
    def test_written(self, tmp_path, name, format_name):
        with pytest.raises(OutputError, match=f"{name}: {format_name} needs imagecodecs; run: {INSTALL}"):
            upscale_image(self.png(tmp_path), tmp_path / name, scale=2)
        assert [path.name for path in tmp_path.iterdir()] == ["in.png"]

    @pytest.mark.usefixtures("without_imagecodecs")
    @pytest.mark.parametrize("options", [(), ("--dry-run",)])
    def test_command(self, tmp_path, name, format_name, options):
        arguments = ["upscale", str(self.png(tmp_path)), "-o", str(tmp_path / name), "-s", "2", *options]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 1
        assert f"{format_name} needs imagecodecs; run: pip install 'subpixel[formats]'" in result.stderr

    @staticmethod
    def png(folder):
        Image.fromarray(smooth_image()).save(folder / "in.png")
        return folder / "in.png"
