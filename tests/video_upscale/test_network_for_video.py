"""Films by a network that sees the frames before: results do not depend on how the work is divided."""

import re
import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import subpixel
from history_models import camera, lr_frames, video_model
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.engines.numpy_history import NumpyHistory
from subpixel.images.alpha import fill_hidden_colors
from subpixel.models import catalog
from subpixel.models.history import without_history
from subpixel.training.history_calibration import calibrate_history
from subpixel.upscaler import Upscaler
from subpixel.video.media.pixel_formats import plane
from subpixel.video.pipeline import frames, history
from video_files import decoded, frames_of, luma, write
from video_jobs import SEGMENT

WARM_UP, FRAMES, SCALE, SHARDS = 3, 35, 2, 4


@pytest.fixture(scope="module")
def model():
    speeds, starts = ((1, 2), (-2, 1)), ((60, 60), (150, 120))
    clips = [lr_frames(camera(3, speed, 64, start), SCALE) for speed in speeds for start in starts]
    return calibrate_history(video_model(SCALE), catalog.find(f"fast-x{SCALE}"), clips)


@pytest.fixture(scope="module")
def planes():
    """The luma of small frames: a camera that moves, with a cut."""
    after = lr_frames(camera(12, (-1, 1), 64, (150, 120)), SCALE)
    return [*lr_frames(camera(FRAMES - 12, (1, 2), 64), SCALE), *after]


@pytest.fixture
def source(planes, tmp_path):
    return write(tmp_path / "in.mkv", frames_of(planes), codec="ffv1")


@pytest.fixture
def upscale(model, short_segments, monkeypatch, tmp_path):
    monkeypatch.setattr(history, "WARM_UP_FRAMES", WARM_UP)
    default = Upscaler(model, precision="int8", threads=2)

    def upscale(source, name="out.mkv", *, upscaler=default, **options):
        subpixel.upscale_video(source, tmp_path / name, upscaler=upscaler, codec="ffv1", **options)
        return tmp_path / name

    return upscale


def base_of(model, frame):
    """The result without history. In films, frames continue with their edge."""
    halo = model.spec.halo_px
    large = NumpyEngine(without_history(model), precision="int8")(np.pad(frame, halo, mode="edge"))
    return large[SCALE * halo : -SCALE * halo, SCALE * halo : -SCALE * halo]


def result_of(model, planes, number, first=None):
    """The result of a frame whose segment begins some frames before its first one."""
    first = max(0, number // SEGMENT * SEGMENT - WARM_UP) if first is None else first
    network, state, result = NumpyHistory(model, precision="int8"), None, None
    for one in planes[first : number + 1]:
        result, state = network.correct(one, base_of(model, one), state)
    return result


def test_the_frames_before_a_segment_warm_it_up(upscale, source, planes, model):
    results = [luma(frame) for frame in decoded(upscale(source))]
    assert len(results) == FRAMES
    for number, result in enumerate(results):
        np.testing.assert_array_equal(result, result_of(model, planes, number), err_msg=str(number))
    # A frame at the end of a segment belongs to two, with different results; the first segment has it.
    last = 2 * SEGMENT - 1
    assert not np.array_equal(results[last], result_of(model, planes, last, first=2 * SEGMENT - WARM_UP))
    assert not np.array_equal(results[last], base_of(model, planes[last]))


@pytest.mark.parametrize("first", [(), (1,), (3,), (0, 2), (2, 0, 1)])
def test_segments_do_not_depend_on_who_computes_them(upscale, source, tmp_path, first):
    """Those that are missing are computed from some frames before."""
    whole = upscale(source, "whole.mkv")
    others = [number for number in range(SHARDS) if number not in first]
    for number in first:
        upscale(source, shard=(number + 1, SHARDS))
        assert not (tmp_path / "out.mkv").exists()
    if first:
        upscale(source)  # resumes
    else:
        for number in others:
            upscale(source, shard=(number + 1, SHARDS))
    assert (tmp_path / "out.mkv").read_bytes() == whole.read_bytes()


def test_deep_frames_have_history(upscale, planes, model, tmp_path):
    source = write(tmp_path / "in.mkv", frames_of(planes[:4], "yuv420p10le"), codec="ffv1")
    results = [luma(frame) for frame in decoded(upscale(source))]
    single = Upscaler(without_history(model), precision="int8", threads=1)
    singles = [luma(frame) for frame in decoded(upscale(source, "single.mkv", upscaler=single))]
    np.testing.assert_array_equal(results[0], singles[0])
    eight_bits = result_of(model, planes, 3)
    assert np.mean(results[3] != singles[3]) > 0.3
    assert np.abs(results[3] / 4 - eight_bits).mean() < 0.5 < np.abs(singles[3] / 4 - eight_bits).mean()


@pytest.mark.parametrize("options", [{"size": (48, 48)}, {"sharpness": 0.5}, {"grain": 1.0}])
def test_what_follows_the_network_gets_its_result(upscale, source, model, options):
    sharpness = {"sharpness": options.pop("sharpness")} if "sharpness" in options else {}
    results, singles = [
        [
            luma(frame).astype(float)
            for frame in decoded(
                upscale(
                    source,
                    f"{number}.mkv",
                    upscaler=Upscaler(each, precision="int8", threads=1, **sharpness),
                    **options,
                )
            )
        ]
        for number, each in enumerate((model, without_history(model)))
    ]
    assert np.abs(results[0] - singles[0]).mean() < 0.6  # padded at another place
    assert np.abs(results[5] - singles[5]).mean() > 1


def test_grain_is_given_once_and_not_to_what_the_next_frame_sees(upscale, source, model, monkeypatch):
    without = [luma(frame) for frame in decoded(upscale(source, "without.mkv"))]
    calls = []
    monkeypatch.setattr(frames, "removed_noise", lambda small, large: calls.append(large.shape))
    results = [luma(frame) for frame in decoded(upscale(source, grain=1.0))]
    assert len(calls) == FRAMES
    for result, expected in zip(results, without, strict=True):
        np.testing.assert_array_equal(result, expected)


def test_arrays_prepare_the_network_once(model, planes, monkeypatch):
    made = []

    def counted(engine):
        made.append(engine)
        return NumpyHistory(engine.model, precision="int8")

    monkeypatch.setattr(history, "correcting", counted)
    assert len(list(Upscaler(model, precision="int8").frames(planes[:3]))) == 3
    assert len(made) == 1


def test_it_is_said_where_frames_are_upscaled_by_themselves(upscale, source, model, tmp_path):
    def notes(name, upscaler, **options):
        path = tmp_path / f"{name}.mkv"
        return subpixel.upscale_video(source, path, upscaler=upscaler, codec="ffv1", **options).warnings

    start = "video-test upscales each frame by itself, with the result of fast-x2: "
    precision = "only in int8, and numpy computes fp32 here; pass --precision int8 (precision='int8')"
    several = "only where one network alone reaches the size; choose a factor of at most 2"
    fp32 = Upscaler(model, "numpy", precision="fp32", threads=1)
    int8 = Upscaler(model, precision="int8", threads=1)
    (text,) = notes("fp32", fp32)
    assert text.startswith(start) and text.endswith(precision)
    (text,) = notes("x4", int8, size=(128, 128))
    assert several in text and "int8" not in text
    (text,) = notes("both", fp32, size=(128, 128))
    assert several in text and text.endswith(precision)
    assert not notes("x2", int8)
    for size in ((32, 32), (16, 16)):  # no network runs
        (text,) = notes(f"{size[0]}", fp32, size=size)
        assert "video-test" not in text


def test_the_base_of_a_network_is_known_by_its_weights(model):
    assert catalog.base_name(model) == "fast-x2"
    assert [catalog.base_name(catalog.find(f"video-x{n}")) for n in (2, 3, 4)] == [
        "best-x2",
        "best-x3",
        "best-x4",
    ]
    weights = model.weights | {"layers.0.bias": model.weights["layers.0.bias"] + 1}
    assert catalog.base_name(replace(model, weights=weights)) == ""


def test_frames_of_any_source_have_an_endless_state(model, planes):
    upscaler = Upscaler(model, precision="int8", threads=2)
    results = [luma(frame) for frame in upscaler.frames(frames_of(planes))]
    for number in (0, 1, SEGMENT, FRAMES - 1):
        np.testing.assert_array_equal(results[number], result_of(model, planes, number, first=0))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("size", [None, (48, 48)])
def test_arrays_have_the_same_state(model, planes, dtype, size):
    upscaler = Upscaler(model, precision="int8", threads=2)
    largest = np.iinfo(dtype).max if dtype != np.float32 else 1
    gray = [(plane / 255 * largest).round(6 if largest == 1 else 0).astype(dtype) for plane in planes[:6]]
    results = list(upscaler.frames(gray, size=size))
    if size is None and dtype == np.uint8:
        for number, result in enumerate(results):
            np.testing.assert_array_equal(result, result_of(model, planes, number, first=0))
    single = [upscaler(one, size=size) for one in gray]
    assert results[5].dtype == dtype and results[5].shape == single[5].shape
    assert np.abs(results[0] / largest - single[0] / largest).mean() < 0.6 / 255
    assert np.abs(results[5] / largest - single[5] / largest).mean() > 1 / 255
    colored = [np.stack([one, one, one], axis=2) for one in gray]
    colors = list(upscaler.frames(colored, size=size))
    assert colors[5].shape == (*results[5].shape, 3) and colors[5].dtype == dtype
    difference = colors[5] / largest - results[5][..., None] / largest
    assert np.abs(difference).mean() < 2 / 255 < np.abs(single[5] / largest - results[5] / largest).max()


@pytest.mark.parametrize("kind", ["array", "VideoFrame"])
@pytest.mark.parametrize("engine", ["auto", "numpy"])
def test_callers_may_change_frames_and_results_that_they_have(model, planes, kind, engine):
    """As OpenCV's users do, who draw into a frame; the next one sees it as it was."""

    def samples(frame):
        return plane(frame, 0) if kind == "VideoFrame" else frame

    def made():
        return frames_of(planes[:5]) if kind == "VideoFrame" else [one.copy() for one in planes[:5]]

    upscaler = Upscaler(model, engine, precision="int8", threads=2)
    expected = [samples(result).copy() for result in upscaler.frames(made())]
    given, taken = made(), [threading.Event() for _ in planes[:5]]

    def one_by_one():
        for frame, ready in zip(given, [None, *taken], strict=False):
            assert ready is None or ready.wait(60)
            yield frame

    for number, result in enumerate(upscaler.frames(one_by_one())):
        np.testing.assert_array_equal(samples(result), expected[number], err_msg=str(number))
        for changed in (result, given[number]):
            samples(changed)[...] = 0
        taken[number].set()


@pytest.mark.parametrize(("dtype", "plain"), [("float64", "float32"), (">f4", "float32"), (">u2", "uint16")])
def test_float64_and_the_other_byte_order_have_the_same_state(model, planes, dtype, plain):
    upscaler = Upscaler(model, precision="int8", threads=2)
    white = 65535 if plain == "uint16" else 1
    frames = [(one / 255 * white).astype(dtype) for one in planes[:5]]
    expected = list(upscaler.frames([one.astype(plain) for one in frames]))
    for result, wanted in zip(upscaler.frames(frames), expected, strict=True):
        assert result.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(result, wanted)
    assert np.any(expected[4] != upscaler(frames[4]))


@pytest.mark.parametrize("size", [None, (48, 48)])
@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_pillow_images_have_the_same_state(model, planes, mode, size):
    upscaler = Upscaler(model, precision="int8", threads=2)
    images = [Image.fromarray(one).convert("L" if mode == "P" else mode) for one in planes[:5]]
    expected = list(upscaler.frames([np.asarray(one) for one in images], size=size))
    if mode == "P":  # a palette becomes RGB
        images = [one.convert("P") for one in images]
        expected = list(upscaler.frames([np.asarray(one.convert("RGB")) for one in images], size=size))
    images[4].info["dpi"] = (72, 72)
    results = list(upscaler.frames(images, size=size))
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(result), wanted)
    assert results[4].info["dpi"] == (72, 72)
    assert np.any(expected[4] != np.asarray(upscaler(images[4], size=size)))


@pytest.mark.parametrize("size", [None, (48, 48)])
@pytest.mark.parametrize("kind", ["RGBA", "LA", "uint8", "float64"])
def test_colors_with_alpha_have_history(model, planes, kind, size):
    """Hidden pixels get the colors around them; alpha is that of an image."""
    upscaler = Upscaler(model, precision="int8", threads=2)
    alpha = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (32, 1))
    gray = kind == "LA"
    colors = [one[..., None] if gray else np.stack([one, one[::-1], one], axis=2) for one in planes[:5]]
    frames = [np.dstack([one, alpha]) for one in colors]
    if kind == "float64":
        frames = [one / 255 for one in frames]
    filled = [fill_hidden_colors(one)[..., :-1] for one in frames]
    given = [Image.fromarray(one) for one in frames] if kind in ("RGBA", "LA") else frames
    expected = list(upscaler.frames([one[..., 0] if gray else one for one in filled], size=size))
    for number, result in enumerate(upscaler.frames(given, size=size)):
        alone = np.asarray(upscaler(given[number], size=size))
        samples = np.asarray(result)
        assert samples.dtype == frames[0].dtype and samples.shape == alone.shape
        np.testing.assert_allclose(samples[..., :-1].squeeze(), expected[number], atol=1e-6)
        np.testing.assert_array_equal(samples[..., -1], alone[..., -1])
    assert np.any(samples != alone)


def test_frames_without_history_are_those_of_images_with_one_warning(model, planes):
    int8, fp32 = (Upscaler(model, "numpy", precision=each, threads=1) for each in ("int8", "fp32"))
    five = [np.dstack([one] * 5) for one in planes[:3]]
    cases = [
        (int8, five, {}, r"^uint8 \(32, 32, 5\): a network for video upscales this frame by itself"),
        (int8, [np.stack([planes[0]] * 3)[..., None]] * 2, {}, "(3, 32, 32, 1).*; convert the frames$"),
        (int8, planes[:2], {"size": (128, 128)}, "video-test upscales each frame by itself, .* at most 2"),
        (fp32, planes[:2], {}, "the result of fast-x2: .* only in int8, and numpy computes fp32 here"),
        (fp32, frames_of(planes[:2]), {}, "the result of fast-x2"),
        (fp32, [Image.fromarray(one) for one in planes[:2]], {}, "the result of fast-x2"),
    ]
    for upscaler, given, options, words in cases:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            results = list(upscaler.frames(given, **options))
        (warning,) = found
        assert warning.category is UserWarning and warning.filename == __file__
        assert re.search(words, str(warning.message))
        if isinstance(given[0], np.ndarray):
            for result, frame in zip(results, given, strict=True):
                np.testing.assert_array_equal(result, upscaler(frame, **options))
    for upscaler, options in [(fp32, {"size": (16, 16)}), (int8, {})]:
        assert len(list(upscaler.frames(planes[:2], **options))) == 2  # a warning would be an error


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_out_of_range_are_refused(model, planes, dtype):
    with pytest.raises(ValueError, match=r"in \[0, 1\], and are in"):
        list(Upscaler(model, precision="int8").frames([planes[0].astype(dtype)]))
