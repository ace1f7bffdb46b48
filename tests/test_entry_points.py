"""All entry points give identical samples: files, bytes, arrays, tensors, Pillow images, frames, command."""

import io
import json
from pathlib import Path

import av
import imagecodecs
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import subpixel
from image_files import png, smooth_image
from subpixel.cli import app

COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""PNG color types by number of channels."""

KINDS = [
    pytest.param(channels, dtype, id=f"{name}-{np.dtype(dtype).name}")
    for channels, name in ((1, "gray"), (2, "gray and alpha"), (3, "RGB"), (4, "RGBA"))
    for dtype in (np.uint8, np.uint16)
]
SIZE = (23, 37)
"""Height and width; both are odd."""


def samples(channels, dtype, seed=0):
    """An image. With alpha, one corner is transparent, but has colors."""
    image = smooth_image(*SIZE, channels, dtype, seed)
    if channels in (2, 4):
        image[:9, :11, -1] = 0
        image[12:, 20:, -1] = np.iinfo(dtype).max
    return image


def png_bytes(image):
    channels = image.shape[2] if image.ndim == 3 else 1
    rows = image.astype(image.dtype.newbyteorder(">")).reshape(len(image), -1)
    header = (image.shape[1], image.shape[0], 8 * image.itemsize, COLOR_TYPES[channels], 0)
    return png(header, [row.tobytes() for row in rows])


@pytest.fixture(scope="module", params=["numpy", "auto"])
def upscaler(request):
    return subpixel.load("fast", scale=2, engine=request.param, threads=2)


@pytest.fixture
def options(upscaler):
    """The same model and engine as options of the command."""
    engine = ["--engine", upscaler.engine.name]
    return [str(word) for word in ("-m", "fast", "-s", 2, "--threads", 2, *engine)]


@pytest.fixture
def write(tmp_path):
    def write_image(image, name="in.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png_bytes(image))
        return path

    return write_image


def by_path(upscaler, path):
    """The reference: the result from file to file."""
    output = path.with_name(f"reference of {path.name}")
    subpixel.upscale_image(path, output, upscaler=upscaler)
    return read(output)


def read(file):
    return imagecodecs.png_decode(file if isinstance(file, bytes) else Path(file).read_bytes())


def as_tensor(image):
    torch = pytest.importorskip("torch")
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, -3)) if image.ndim > 2 else image)


@pytest.mark.parametrize(("channels", "dtype"), KINDS)
class TestFiles:
    def test_bytes_and_file_objects(self, upscaler, write, tmp_path, channels, dtype):
        path = write(samples(channels, dtype))
        output = path.with_name("reference.png")
        subpixel.upscale_image(path, output, upscaler=upscaler)
        data = path.read_bytes()
        for given in (data, bytearray(data), memoryview(data), io.BytesIO(data)):
            large = io.BytesIO()
            subpixel.upscale_image(given, large, format="png", upscaler=upscaler)
            assert large.getvalue() == output.read_bytes()
        with path.open("rb") as file, (tmp_path / "other.png").open("wb") as large:
            subpixel.upscale_image(file, large, format="png", upscaler=upscaler)
        assert (tmp_path / "other.png").read_bytes() == output.read_bytes()

    def test_the_command_on_a_file_and_on_a_folder(self, upscaler, options, write, tmp_path, channels, dtype):
        images = {f"in/{seed}.png": samples(channels, dtype, seed) for seed in range(2)}
        expected = {name: by_path(upscaler, write(image, name)) for name, image in images.items()}
        for file in (tmp_path / "in").glob("reference*"):
            file.unlink()
        one = ["upscale", f"{tmp_path}/in/0.png", "-o", f"{tmp_path}/one.png", *options]
        assert CliRunner().invoke(app, one).exit_code == 0
        np.testing.assert_array_equal(read(tmp_path / "one.png"), expected["in/0.png"])
        several = ["upscale", f"{tmp_path}/in", "-o", f"{tmp_path}/out", "--json", *options]
        done = CliRunner().invoke(app, several)
        assert [json.loads(line)["width"] for line in done.stdout.splitlines()] == [74, 74]
        for name, image in expected.items():
            np.testing.assert_array_equal(read(tmp_path / name.replace("in", "out")), image)


@pytest.mark.parametrize(("channels", "dtype"), [kind for kind in KINDS if "gray and alpha" not in kind.id])
class TestArrays:
    """Without gray and alpha: in an array, two channels are independent planes."""

    def test_arrays_batches_frames_and_tensors(self, upscaler, write, channels, dtype):
        images = [samples(channels, dtype, seed) for seed in range(2)]
        expected = [by_path(upscaler, write(image, f"{seed}.png")) for seed, image in enumerate(images)]
        for image, large in zip(images, expected, strict=True):
            np.testing.assert_array_equal(upscaler(image), large)
        for large, same in zip(upscaler.frames(images), expected, strict=True):
            np.testing.assert_array_equal(large, same)
        batch = np.stack([image.reshape(*SIZE, channels) for image in images])
        of_batch = np.stack(expected).reshape(2, 46, 74, channels)
        np.testing.assert_array_equal(upscaler(batch), of_batch)
        np.testing.assert_array_equal(upscaler(as_tensor(images[0])), as_tensor(expected[0]))
        np.testing.assert_array_equal(upscaler(as_tensor(batch)), as_tensor(of_batch))
        (from_tensor,) = upscaler.frames([as_tensor(images[0])])
        np.testing.assert_array_equal(from_tensor, as_tensor(expected[0]))


@pytest.mark.parametrize(
    ("channels", "dtype"), [kind for kind in KINDS if "16" not in kind.id or "gray-" in kind.id]
)
def test_pillow_images(upscaler, write, channels, dtype):
    path = write(samples(channels, dtype))
    large = upscaler(Image.open(path))
    np.testing.assert_array_equal(np.asarray(large), by_path(upscaler, path))


@pytest.mark.parametrize("format", ["gray", "gray16le", "yuv420p"])
def test_a_video_of_one_frame(upscaler, write, tmp_path, format):
    dtype = np.uint16 if "16" in format else np.uint8
    gray = smooth_image(24, 38, 1, dtype)  # even, for 4:2:0
    frame = av.VideoFrame.from_ndarray(gray, format="gray16le" if "16" in format else "gray")
    if format == "yuv420p":
        frame = av.VideoFrame.from_ndarray(
            np.concatenate([gray, np.full((12, 38), 99, np.uint8)]), format=format
        )
    with av.open(str(tmp_path / "in.mkv"), "w") as video:
        stream = video.add_stream("ffv1", 25)
        stream.width, stream.height, stream.pix_fmt = 38, 24, format
        video.mux(stream.encode(frame))
        video.mux(stream.encode())
    expected = by_path(upscaler, write(gray))

    def luma(file):
        with av.open(file) as opened:
            (large,) = opened.decode(video=0)
        assert large.format.name == format
        return large.to_ndarray()[:48] if format == "yuv420p" else large.to_ndarray()

    subpixel.upscale_video(tmp_path / "in.mkv", tmp_path / "out.mkv", codec="ffv1", upscaler=upscaler)
    np.testing.assert_array_equal(luma(str(tmp_path / "out.mkv")), expected)
    large = io.BytesIO()
    data = (tmp_path / "in.mkv").read_bytes()
    subpixel.upscale_video(data, large, container="mkv", codec="ffv1", upscaler=upscaler)
    np.testing.assert_array_equal(luma(io.BytesIO(large.getvalue())), expected)
    (of_frame,) = upscaler.frames([frame])
    plane = np.frombuffer(memoryview(of_frame.planes[0]), dtype).reshape(48, -1)
    np.testing.assert_array_equal(plane[:, :76], expected)
