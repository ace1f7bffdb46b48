"""The public API: bytes, file objects, tensors, progress, `repr` and equality."""

import dataclasses
import io
import pickle
import sys
import typing
from dataclasses import replace
from pathlib import Path

import av
import imagecodecs
import numpy as np
import pytest
from PIL import Image

import subpixel
from image_files import smooth_image
from interpolating import bicubic_model
from random_models import random_model
from subpixel import options
from subpixel.benchmark.measure import measure
from subpixel.evaluation.video import ClipSetup, evaluate_clip
from subpixel.models.calibration import calibrate
from subpixel.models.catalog import find
from subpixel.models.networks.espcn import espcn
from video_files import make_frames, write


@pytest.fixture(scope="module")
def upscaler():
    return subpixel.Upscaler(bicubic_model(2), "numpy", threads=1)


@pytest.fixture
def data():
    file = io.BytesIO()
    Image.fromarray(smooth_image()).save(file, "png")
    return file.getvalue()


def format_of(file):
    with Image.open(file) as image:
        return image.format.lower()


class TestFileObjects:
    def test_results_name_the_input_and_output(self, upscaler, data, tmp_path):
        with (tmp_path / "out.jpg").open("wb") as file:
            result = subpixel.upscale_image(data, file, format="jpeg", upscaler=upscaler)
        assert (result.input, result.output) == ("<bytes>", str(tmp_path / "out.jpg"))
        result = subpixel.upscale_image(io.BytesIO(data), tmp_path / "out.png", upscaler=upscaler)
        assert (result.input, result.output) == ("<file>", str(tmp_path / "out.png"))
        assert format_of(tmp_path / "out.jpg") == "jpeg"

    @pytest.mark.parametrize("format", typing.get_args(options.ImageFormat))
    def test_formats(self, upscaler, data, format):
        large = io.BytesIO()
        subpixel.upscale_image(data, large, format=format, upscaler=upscaler)
        if format == "jxl":  # unknown to Pillow
            assert imagecodecs.jpegxl_decode(large.getvalue()).ndim == 3
        else:
            assert format_of(large) == format

    @pytest.mark.parametrize("container", typing.get_args(options.ContainerName))
    def test_containers(self, upscaler, tmp_path, container):
        write(tmp_path / "in.mp4", make_frames(2))
        large = io.BytesIO()
        with (tmp_path / "in.mp4").open("rb") as video:
            result = subpixel.upscale_video(video, large, container=container, upscaler=upscaler)
        assert (result.input, result.output) == (str(tmp_path / "in.mp4"), "<file>")
        with av.open(io.BytesIO(large.getvalue())) as video:
            assert len(list(video.decode(video=0))) == result.frames == 2

    def test_an_extension_and_a_format(self, upscaler, data, tmp_path):
        subpixel.upscale_image(data, tmp_path / "bare", format="tiff", upscaler=upscaler)
        assert format_of(tmp_path / "bare") == "tiff"
        with pytest.raises(ValueError, match=r"out\.png: has the extension of PNG, but the format is JPEG"):
            subpixel.upscale_image(data, tmp_path / "out.png", format="jpeg", upscaler=upscaler)
        with pytest.raises(ValueError, match="unknown format 'psd'; known: png, jpeg, webp, tiff, bmp, gif"):
            subpixel.upscale_image(data, io.BytesIO(), format="psd", upscaler=upscaler)
        with pytest.raises(ValueError, match="unknown container 'avi'; known: mp4, mkv, mov, webm, y4m"):
            subpixel.upscale_video(data, io.BytesIO(), container="avi", upscaler=upscaler)

    def test_y4m_is_clean_as_a_path_bytes_and_file_object(self, upscaler, tmp_path):
        write(tmp_path / "in.y4m", make_frames(1), codec="wrapped_avframe")
        data = (tmp_path / "in.y4m").read_bytes()
        for given in (tmp_path / "in.y4m", data, io.BytesIO(data)):
            result = subpixel.upscale_video(
                given, io.BytesIO(), container="mkv", codec="ffv1", engine="numpy", scale=2
            )
            assert result.content == "clean"

    @pytest.mark.parametrize("given", [b"nonsense", io.BytesIO(b"nonsense")])
    def test_errors_name_the_input(self, upscaler, given):
        name = "<bytes>" if isinstance(given, bytes) else "<file>"
        large = io.BytesIO()
        with pytest.raises(subpixel.UnreadableImage, match=f"^{name}: is not an image"):
            subpixel.upscale_image(given, large, format="png", upscaler=upscaler)
        with pytest.raises(subpixel.UnreadableVideo, match=f"^{name}: "):
            subpixel.upscale_video(given, large, container="mkv", upscaler=upscaler)
        assert large.getvalue() == b""

    def test_file_objects_that_fail(self, upscaler, data, tmp_path):
        closed = io.BytesIO(data)
        closed.close()
        with pytest.raises(subpixel.InputError, match=r"<file>: could not be read .*closed"):
            subpixel.upscale_image(closed, io.BytesIO(), format="png", upscaler=upscaler)
        with pytest.raises(subpixel.OutputError, match=r"<file>: could not be written .*closed"):
            subpixel.upscale_image(data, closed, format="png", upscaler=upscaler)
        (tmp_path / "in.png").write_bytes(data)
        with (
            (tmp_path / "in.png").open("rb") as read_only,
            pytest.raises(subpixel.OutputError, match=r"in\.png: could not be written"),
        ):
            subpixel.upscale_image(data, read_only, format="png", upscaler=upscaler)

    def test_temporary_files_are_removed(self, upscaler, data, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        subpixel.upscale_image(data, io.BytesIO(), format="png", upscaler=upscaler)
        with pytest.raises(subpixel.UnreadableImage):
            subpixel.upscale_image(b"nonsense", io.BytesIO(), format="png", upscaler=upscaler)
        assert not list(tmp_path.iterdir())


class TestProgress:
    def test_images_and_videos_report_the_same_type(self, upscaler, data, tmp_path):
        write(tmp_path / "in.mp4", make_frames(5))
        seen = {"image": [], "video": []}
        subpixel.upscale_image(
            data, io.BytesIO(), format="png", upscaler=upscaler, progress=seen["image"].append
        )
        subpixel.upscale_video(
            tmp_path / "in.mp4", tmp_path / "out.mkv", upscaler=upscaler, progress=seen["video"].append
        )
        for reports in seen.values():
            assert all(type(progress) is subpixel.Progress for progress in reports)
            fractions = [progress.fraction for progress in reports]
            assert fractions == sorted(fractions)
            assert fractions[-1] == 1
        assert (seen["image"][-1].frames, seen["image"][-1].total_frames) == (0, None)
        last = seen["video"][-1]
        assert (last.frames, last.total_frames) == (5, 5)
        assert last.frames_per_second > 0
        assert last.bottleneck

    def test_old_names_still_work_with_a_warning(self, upscaler, data):
        progress = subpixel.Progress(fraction=0.5, seconds=1, frames=2, total_frames=4)
        with pytest.warns(DeprecationWarning, match=r"Progress\.total is now total_frames") as caught:
            assert progress.total == 4
        assert caught[0].filename == __file__
        result = subpixel.upscale_image(data, io.BytesIO(), format="png", upscaler=upscaler)
        with pytest.warns(DeprecationWarning, match=r"ImageResult\.notices is now warnings"):
            assert result.notices == result.warnings == ()

    def test_other_callbacks_are_checked_before_the_work(self):
        model, planes = bicubic_model(2), [np.zeros((8, 8), np.uint8)]
        calls = [
            lambda: calibrate(model, planes, progress=3),
            lambda: measure(model, planes[0], [], [], threads=1, rounds=1, progress=3),
            lambda: evaluate_clip(Path("none.mp4"), np.asarray, ClipSetup(2), progress=3),
        ]
        for call in calls:
            with pytest.raises(TypeError, match="progress must be callable, not 3"):
                call()

    def test_results_are_frozen(self):
        for kind in (subpixel.Progress, subpixel.ImageResult, subpixel.VideoResult):
            assert dataclasses.is_dataclass(kind)
            assert kind.__dataclass_params__.frozen


class OnlyArray:
    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class OnlyDlpack:
    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class TestArrayLikes:
    @pytest.mark.parametrize("kind", [OnlyArray, OnlyDlpack])
    def test_results_are_arrays(self, upscaler, kind):
        large = upscaler(kind(smooth_image()))
        assert type(large) is np.ndarray
        np.testing.assert_array_equal(large, upscaler(smooth_image()))

    def test_their_arrays_are_checked(self, upscaler):
        with pytest.raises(TypeError, match="not int64"):
            upscaler(OnlyArray(np.zeros((4, 4), np.int64)))
        with pytest.raises(ValueError, match=r"not \(\)"):
            upscaler(np.float32(1))

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
    @pytest.mark.parametrize("shape", [(9, 7), (1, 9, 7), (3, 9, 7), (4, 9, 7), (2, 3, 9, 7)])
    def test_tensors_have_channels_first(self, upscaler, shape, dtype):
        torch = pytest.importorskip("torch")
        samples = np.random.default_rng(0).random(shape)
        array = (samples if "float" in dtype else samples * 255).astype(dtype)
        large = upscaler(torch.from_numpy(array))
        assert isinstance(large, torch.Tensor)
        assert large.dtype == getattr(torch, dtype)
        assert large.shape == (*shape[:-2], 18, 14)
        assert large.is_contiguous()
        bands_last = array if array.ndim == 2 else np.moveaxis(array, -3, -1)
        expected = upscaler(np.ascontiguousarray(bands_last))
        np.testing.assert_array_equal(large, expected if array.ndim == 2 else np.moveaxis(expected, -1, -3))

    def test_unsupported_tensors(self, upscaler):
        torch = pytest.importorskip("torch")
        with pytest.raises(ValueError, match=r"\(C, H, W\) or \(N, C, H, W\), not \(4,\)"):
            upscaler(torch.zeros(4))
        for dtype in (torch.int64, torch.float16, torch.bfloat16):
            with pytest.raises(TypeError, match="expected uint8, uint16, float32 or float64 samples, not"):
                upscaler(torch.zeros(4, 4, dtype=dtype))

    def test_a_tensor_with_gradients(self, upscaler):
        torch = pytest.importorskip("torch")
        assert not upscaler(torch.zeros(3, 4, 4, requires_grad=True)).requires_grad

    def test_arrays_need_no_torch(self, upscaler, monkeypatch):
        monkeypatch.delitem(sys.modules, "torch", raising=False)
        upscaler(smooth_image())
        upscaler(OnlyArray(smooth_image()))
        assert "torch" not in sys.modules


class TestReprAndEquality:
    def test_repr_is_one_line(self):
        assert repr(espcn(2)) == "<ModelSpec x2: 5x5 1-64 tanh, 3x3 64-32 tanh, 3x3 32-4, shuffle>"
        model = find("fast-x2")
        layers = f"{len(model.spec.layers)} layers"
        parameters = f"{model.spec.parameters:,} parameters"
        assert repr(model) == f"<Model {model.name}: x2, {layers}, {parameters}, fp32 and int8>"
        assert repr(replace(model, quantized=())).endswith("parameters, fp32>")
        upscaler = subpixel.Upscaler(model, "numpy", threads=1)
        assert repr(upscaler) == f"<Upscaler {model.name}: x2, numpy fp32, 1 thread>"
        exact = subpixel.Upscaler(model, "numpy", precision="int8", threads=2)
        assert repr(exact) == f"<Upscaler {model.name}: x2, numpy int8, 2 threads>"

    def test_models_are_equal_when_they_compute_the_same(self):
        model = random_model(espcn(2), seed=1)
        same = replace(model, name="other", metadata=subpixel.ModelMetadata(license="MIT"))
        others = [random_model(espcn(2), seed=2), random_model(espcn(3), seed=1), find("fast-x2")]
        assert model == same
        assert hash(model) == hash(same)
        assert len({model, same, *others}) == 4
        assert model != "model"
        assert pickle.loads(pickle.dumps(model)) == model

    def test_upscalers_are_equal_when_they_compute_the_same(self):
        model = find("fast-x2")
        upscaler = subpixel.Upscaler(model, "numpy", threads=1)
        same = subpixel.Upscaler(replace(model, name="other"), "numpy", threads=2)
        exact = subpixel.Upscaler(model, "numpy", precision="int8")
        other = subpixel.Upscaler(model, "onnxruntime")
        assert upscaler == same
        assert len({upscaler, same, exact, other}) == 3
        assert upscaler != model


def test_available_models():
    names = subpixel.available_models()
    assert names == sorted(names)
    assert {"default-x2", "best-x3"} <= set(names)
    assert not [name for name in names if name.startswith(("tnrd", "srcnn"))]
    assert all(subpixel.load(name, engine="numpy").model.name == name for name in names)


@pytest.mark.parametrize("function", [subpixel.load, subpixel.upscale_image, subpixel.upscale_video])
def test_signatures_list_the_values(function):
    hints = typing.get_type_hints(function, {"Upscaler": subpixel.Upscaler}, {"Upscaler": subpixel.Upscaler})
    assert hints["engine"] == options.EngineName
    assert hints["precision"] == options.Precision
    assert "auto" in typing.get_args(options.EngineName)
