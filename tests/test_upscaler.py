import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

import subpixel
from image_files import smooth_image
from interpolating import bicubic_model
from random_models import random_model
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.errors import ModelError, UnsupportedImage
from subpixel.loading import load
from subpixel.models.spec import Convolution, ModelSpec
from subpixel.ops.resize import imresize
from subpixel.upscaler import Upscaler

INSIDE = (slice(8, -8), slice(8, -8))


@pytest.fixture(scope="module")
def upscaler():
    return Upscaler(bicubic_model(2), "numpy")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.safetensors"
    bicubic_model(3).save(path)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("bands", [None, 1, 2, 3, 5])
def test_arrays(upscaler, bands, dtype):
    image = smooth_image(channels=bands or 1, dtype=np.uint16).reshape(20, 28, *([bands] if bands else []))
    image = image / 65535
    white = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
    given = np.round(image * white).astype(dtype) if white > 1 else image.astype(dtype)
    result = upscaler(given)
    assert result.dtype == dtype
    assert result.shape == (40, 56, *image.shape[2:])
    expected = imresize(given / white, 2).clip(0, 1) * white
    assert np.abs(result - expected)[INSIDE].max() <= (1.01 if white > 1 else 1e-5)


def test_four_channels_are_rgb_and_alpha(upscaler):
    image = np.zeros((20, 28, 4), np.uint8)
    image[5:15, 5:20] = (200, 120, 40, 255)
    result = upscaler(image).astype(int)
    visible = result[..., 3] > 0
    assert np.abs(result[visible][:, :3] - (200, 120, 40)).max() <= 1


def test_gray_with_and_without_a_channel_axis(upscaler):
    image = smooth_image(channels=1)
    np.testing.assert_array_equal(upscaler(image), upscaler(image[..., None])[..., 0])


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64])
def test_byte_order_does_not_matter(upscaler, dtype):
    image = smooth_image(channels=3).astype(dtype) / (1 if dtype is np.uint16 else 255)
    image = image.astype(dtype)
    swapped = image.astype(image.dtype.newbyteorder())
    result = upscaler(swapped)
    assert result.dtype == swapped.dtype
    np.testing.assert_array_equal(result, upscaler(image))


@pytest.mark.parametrize("dtype", [bool, np.int32, np.int8, np.float16, complex, object])
def test_unsupported_dtypes(upscaler, dtype):
    with pytest.raises(TypeError, match="expected uint8, uint16, float32 or float64"):
        upscaler(np.zeros((4, 4), dtype))


@pytest.mark.parametrize("shape", [(4,), (0, 4), (4, 4, 0), (1, 1, 4, 4, 3), (0, 4, 4, 3)])
def test_unsupported_shapes(upscaler, shape):
    with pytest.raises(ValueError, match="expected an image of shape"):
        upscaler(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (255.0, r"must be in \[0, 1\], and are in \[0, 255\]; divide them by the largest"),
        (-0.1, r"must be in \[0, 1\], and are in \[-0.1, 0\]; clip them"),
        (np.nan, "1 of 16 samples are NaN or infinite; replace them"),
        (np.inf, "1 of 16 samples are NaN or infinite; replace them"),
        (-np.inf, "1 of 16 samples are NaN or infinite; replace them"),
    ],
)
def test_floats_out_of_range(upscaler, dtype, value, words):
    image = np.zeros((4, 4), dtype)
    image[1, 1] = value
    with pytest.raises(ValueError, match=words):
        upscaler(image)
    with pytest.raises(ValueError, match=words):
        next(upscaler.frames([image]))


def test_the_largest_floats(upscaler):
    image = np.full((4, 4), np.finfo(np.float64).max)
    image[0, 0] *= -1
    with pytest.raises(ValueError, match="clip them"):
        upscaler(image)


def test_unsupported_types(upscaler):
    with pytest.raises(TypeError, match="not list"):
        upscaler([[0, 1], [2, 3]])


@pytest.mark.parametrize(
    ("mode", "result"),
    [
        ("1", "L"),
        ("L", "L"),
        ("LA", "LA"),
        ("P", "RGB"),
        ("PA", "RGBA"),
        ("RGB", "RGB"),
        ("RGBA", "RGBA"),
        ("RGBX", "RGB"),
        ("CMYK", "RGB"),
        ("YCbCr", "RGB"),
        ("HSV", "RGB"),
        ("LAB", "RGB"),
        ("I;16", "I;16"),
        ("I;16B", "I;16"),
    ],
)
def test_pillow_modes(upscaler, mode, result):
    if mode.startswith("I;16"):
        deep = smooth_image(channels=1, dtype=np.uint16)
        image = Image.frombytes(mode, (28, 20), deep.astype(">u2" if mode == "I;16B" else "<u2").tobytes())
    elif mode == "LAB":
        profiles = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
        image = ImageCms.profileToProfile(Image.fromarray(smooth_image()), *profiles, outputMode="LAB")
    elif mode in ("LA", "PA"):
        image = Image.fromarray(smooth_image()).convert("LA").convert(mode)
    else:
        image = Image.fromarray(smooth_image()).convert(mode)
    large = upscaler(image)
    assert large.mode == result
    assert large.size == (56, 40)
    if result == "I;16":
        expected = imresize(deep / 65535, 2) * 65535
    elif mode == "LAB":
        expected = imresize(smooth_image() / 255, 2).clip(0, 1) * 255
    else:
        expected = imresize(np.asarray(image.convert(result)) / 255, 2).clip(0, 1) * 255
    difference = np.abs(np.asarray(large) - expected)[INSIDE]
    assert np.median(difference) <= (4 if mode == "LAB" else 1)


def test_pillow_images_keep_their_info(upscaler):
    image = Image.fromarray(smooth_image())
    image.info = {"icc_profile": b"profile", "dpi": (300, 300)}
    assert upscaler(image).info == image.info
    image = image.convert("CMYK")
    image.info = {"icc_profile": b"profile", "dpi": (300, 300)}
    assert upscaler(image).info == {"dpi": (300, 300)}


def test_a_transparent_color_becomes_alpha(upscaler):
    image = Image.fromarray(smooth_image()).quantize(8)
    image.info["transparency"] = 3
    large = upscaler(image)
    assert large.mode == "RGBA"
    assert "transparency" not in large.info
    assert large.getextrema()[3] == (0, 255)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pillow_modes_of_unknown_range(upscaler, mode):
    with pytest.raises(UnsupportedImage, match=f"mode {mode} .*pass an array"):
        upscaler(Image.new(mode, (4, 4)))


class TestLoad:
    def test_by_path(self, file):
        upscaler = load(file)
        assert (upscaler.model.name, upscaler.scale) == ("bicubic-x3", 3)
        assert upscaler.engine.model is upscaler.model
        assert upscaler.reason
        assert load(str(file)).scale == 3
        assert load(file, scale=3).scale == 3
        bare = file.rename(file.with_suffix(""))  # a Path is a file whatever its extension
        assert load(bare).scale == 3

    def test_a_path_with_another_scale(self, file):
        """The model is used as often as needed, and the result is reduced."""
        assert load(file, scale=2)(np.zeros((5, 7), np.uint8)).shape == (10, 14)

    def test_arguments_that_exclude_each_other(self, file):
        with pytest.raises(ValueError, match="pass either a model or a content, not both"):
            load("espcn-t91-x3", content="clean")
        for old in ({"path": file}, {"name": "espcn-t91-x3"}):
            with (
                pytest.warns(DeprecationWarning, match="the old argument"),
                pytest.raises(ValueError, match=f"pass either a model or {next(iter(old))}, not both"),
            ):
                load("espcn-t91-x3", **old)

    def test_old_arguments_still_work_with_a_warning(self, file):
        for old, new in (
            ({"path": file}, file),
            ({"path": str(file)}, file),
            ({"name": "fast-x2"}, "fast-x2"),
        ):
            with pytest.warns(DeprecationWarning, match=r"is now load\(\.\.\.\)") as caught:
                assert load(**old) == load(new)
            assert caught[0].filename == __file__

    def test_the_default_scale_is_two(self):
        asked = [((), {}), ((), {"scale": 3}), (("espcn-t91-x3",), {}), ((), {"content": "compressed"})]
        names = [load(*arguments, engine="numpy", **options).model.name for arguments, options in asked]
        assert names == ["default-x2", "default-x3", "espcn-t91-x3", "default-compressed-x2"]

    @pytest.mark.parametrize(
        ("arguments", "options", "words"),
        [
            ((2,), {}, r"model must be a name or a path, not 2; write load\(scale=2\)"),
            ((True,), {}, "a name or a path, not True$"),
            ((2.0,), {}, "a name or a path, not 2.0$"),
            ((b"default",), {}, "a name or a path, not b'default'"),
            ((), {"scale": "3"}, "scale must be a number, not '3'"),
            ((), {"scale": True}, "scale must be a number, not True"),
            ((), {"threads": "2"}, "threads must be an integer, not '2'"),
            ((), {"threads": 1.5}, "threads must be an integer, not 1.5"),
        ],
    )
    def test_wrong_types(self, arguments, options, words):
        with pytest.raises(TypeError, match=words):
            load(*arguments, **options)

    def test_numpy_integers(self):
        assert load(scale=np.int64(3), engine="numpy", threads=np.int32(1)).scale == 3

    def test_an_empty_name_is_not_the_default(self):
        with pytest.raises(ModelError, match="a model's name is empty; leave it out for the default"):
            load("")

    def test_content_is_not_classified_in_memory(self):
        with pytest.raises(
            ValueError,
            match=r"unknown content 'auto'; known: clean, compressed, pixel-art\. .* only upscale_image",
        ):
            load(content="auto")

    def test_unknown(self, file):
        with pytest.raises(ModelError, match="no packaged model 'nonesuch'"):
            load("nonesuch")
        with pytest.raises(ModelError, match=r"m\.safetensors: no such model file"):
            load(Path("m.safetensors"))
        with pytest.raises(ValueError, match="unknown engine 'gpu'; known: auto, native"):
            load(file, engine="gpu")
        with pytest.raises(ValueError, match="unknown precision 'fp8'; known: auto, fp32, int8"):
            load(file, precision="fp8")

    def test_engine_and_threads(self, file):
        upscaler = load(file, engine="numpy", threads=1)
        assert (upscaler.engine.name, upscaler.engine.threads) == ("numpy", 1)


def test_an_upscaler_needs_a_model():
    with pytest.raises(TypeError, match=r"expected a Model, not str; subpixel\.load takes a name"):
        Upscaler("default")
    with pytest.raises(TypeError, match="upscaler must be what `load` returns, not str"):
        subpixel.upscale_image("a.png", "b.png", upscaler="default")


def test_an_engine_compiled_from_another_model():
    with pytest.raises(ValueError, match="another model"):
        Upscaler(bicubic_model(2), NumpyEngine(bicubic_model(2)))


def test_a_network_with_three_channels():
    spec = ModelSpec(scale=2, channels=3, layers=(Convolution(3, 12, 3),))
    with pytest.raises(ModelError, match="3 channels"):
        Upscaler(random_model(spec))


def test_public_names():
    assert subpixel.Upscaler is Upscaler
    assert subpixel.load is load


class TestWrongTypes:
    """A wrong type is reported before any file is read or written, and is not a SubpixelError."""

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"input": 2}, "input must be a path, bytes or a binary file object, not 2"),
            ({"input": None}, "input must be a path, bytes or a binary file object, not None"),
            (
                {"input": io.StringIO("a")},
                "input must be a path, bytes or a binary file object, not <_io.Str",
            ),
            ({"output": b"a.png"}, "output must be a path or a binary file object, not b'a.png'"),
            ({"output": io.StringIO()}, "output must be a path or a binary file object, not <_io.StringIO"),
            ({"output": io.BytesIO()}, "the output is a file object: "),
            (
                {"input": np.zeros(2)},
                "input must be a path, bytes or a binary file object, not array([0., 0.])",
            ),
            (
                {"input": np.zeros((9, 9, 3))},
                "input must be a path, bytes or a binary file object, not ndarray",
            ),
            ({"output": None}, "output must be a path or a binary file object, not None"),
            ({"scale": "2"}, "scale must be a number, not '2'"),
            ({"scale": [2]}, "scale must be a number, not [2]"),
            ({"threads": 1.5}, "threads must be an integer, not 1.5"),
            ({"engine": ["numpy"]}, "engine must be a string, not ['numpy']"),
            ({"precision": 8}, "precision must be a string, not 8"),
            ({"content": 3}, "content must be a string, not 3"),
            ({"model": 2}, "model must be a name or a path, not 2"),
            ({"upscaler": "default"}, "upscaler must be what `load` returns, not str"),
            ({"progress": 3}, "progress must be callable, not 3"),
            ({"progress": None}, "progress must be callable, not None"),
        ],
    )
    @pytest.mark.parametrize("function", [subpixel.upscale_image, subpixel.upscale_video])
    def test_arguments_of_both(self, tmp_path, function, changes, message):
        self.check_refused(tmp_path, function, changes, message)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"quality": "95"}, "quality must be an integer, not '95'"),
            ({"quality": 95.5}, "quality must be an integer, not 95.5"),
            ({"max_output_pixels": "x"}, "max_output_pixels must be an integer, not 'x'"),
            ({"max_memory_mib": "x"}, "max_memory_mib must be an integer, not 'x'"),
        ],
    )
    def test_arguments_of_upscale_image(self, tmp_path, changes, message):
        self.check_refused(tmp_path, subpixel.upscale_image, changes, message)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"crf": "20"}, "crf must be a number, not '20'"),
            ({"codec": 3}, "codec must be a string, not 3"),
            ({"preset": 3}, "preset must be a string, not 3"),
            ({"container": 3}, "container must be a string, not 3"),
            ({"codec_options": ["a"]}, "codec_options must be a mapping, not ['a']"),
            ({"start": "x"}, "start must be a number, not 'x'"),
            ({"end": float("nan")}, "end must be finite, not nan"),
        ],
    )
    def test_arguments_of_upscale_video(self, tmp_path, changes, message):
        self.check_refused(tmp_path, subpixel.upscale_video, changes, message)

    def check_refused(self, folder, function, changes, message):
        extension = "png" if function is subpixel.upscale_image else "mkv"
        Image.fromarray(smooth_image()).save(folder / "in.png")
        paths = {"input": folder / "in.png", "output": folder / "new" / f"out.{extension}"}
        with pytest.raises((TypeError, ValueError), match=re.escape(message)) as caught:
            function(**paths | changes)
        assert not isinstance(caught.value, subpixel.SubpixelError)
        assert [path.name for path in folder.iterdir()] == ["in.png"]
