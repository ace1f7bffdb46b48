"""Upscaling of one frame: luma by the network, the rest by FFmpeg, at every depth and subsampling."""

import io

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

import video_files
from interpolating import bicubic_model
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.ops.resize import imresize
from subpixel.sizes import PixelGeometry, TargetSize
from subpixel.upscaler import Upscaler
from subpixel.video.media.pixel_formats import (
    bit_depth,
    chroma_location,
    color_tags,
    planar_format,
    plane,
    round_to_depth,
)
from subpixel.video.pipeline.frames import FrameUpscaler
from video_files import chroma, luma, make_frames

PLANAR = [f"yuv{chroma}p{depth}" for chroma in (420, 422, 444) for depth in ("", "10le", "12le", "16le")]
SCALE = 3


@pytest.fixture(scope="module")
def upscaler():
    return Upscaler(bicubic_model(SCALE), "numpy")


def first(format, width=32, height=24):
    """Return a frame of any format, converted by FFmpeg from planar 4:4:4."""
    deep = av.VideoFormat(format, 8, 8).components[0].bits > 8
    frame = next(make_frames(1, width, height, "yuv444p16le" if deep else "yuv444p"))
    return VideoReformatter().reformat(frame, format=format)


def expected_luma(small, depth):
    """Return MATLAB's bicubic with repeated edges, rounded once: the function that the model computes."""
    large = imresize(small / (2**depth - 1), SCALE)
    return np.floor(np.clip(large, 0, 1) * (2**depth - 1) + 0.5)


def assert_within(result, expected, tolerance):
    assert result.shape == expected.shape
    difference = np.abs(result.astype(float) - expected).max()
    assert difference <= tolerance, f"differs by {difference}"


def test_assert_within_can_fail():
    with pytest.raises(AssertionError, match=r"differs by 2\.0"):
        assert_within(np.array([3], np.uint8), np.array([5.0]), 1)


@pytest.mark.parametrize("format", [*PLANAR, "gray", "gray10le", "gray12le"])
def test_luma_by_the_network_chroma_by_ffmpeg(upscaler, format):
    small = first(format)
    large = FrameUpscaler(upscaler.family, TargetSize(scale=upscaler.scale))(small)
    depth = bit_depth(small.format)
    assert (large.format.name, large.width, large.height) == (format, 96, 72)
    assert_within(luma(large), expected_luma(luma(small), depth), 1 + 2 ** (depth - 8) // 64)
    exact = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
    reference = VideoReformatter().reformat(small, 96, 72, format, interpolation=exact, threads=1)
    for index in range(1, len(small.planes)):
        np.testing.assert_array_equal(chroma(large, index), chroma(reference, index))


@pytest.mark.parametrize(
    ("format", "becomes"),
    [
        ("nv12", "yuv420p"),
        ("nv21", "yuv420p"),
        ("p010le", "yuv420p10le"),
        ("yuyv422", "yuv422p"),
        ("uyvy422", "yuv422p"),
        ("yuva420p", "yuv420p"),
        ("yuvj420p", "yuv420p"),
        ("yuvj444p", "yuv444p"),
        ("gray16be", "gray16le"),
        ("yuv420p10be", "yuv420p10le"),
        ("rgb24", "yuv444p"),
        ("bgra", "yuv444p"),
        ("gbrp", "yuv444p"),
        ("gbrp10le", "yuv444p10le"),
        ("rgb48le", "yuv444p16le"),
        ("yuv411p", "yuv411p"),
        ("yuv440p", "yuv440p"),
    ],
)
def test_other_formats_become_planes(upscaler, format, becomes):
    small = first(format)
    assert planar_format(small.format) == becomes
    large = FrameUpscaler(upscaler.family, TargetSize(scale=upscaler.scale))(small)
    assert large.format.name == becomes
    if format.startswith("yuvj"):
        source, depth = luma(small), 8
    else:
        matrix = {"dst_colorspace": Colorspace.ITU709} if small.format.is_rgb else {}
        source = luma(VideoReformatter().reformat(small, format=becomes, **matrix))
        depth = bit_depth(large.format)
    assert_within(luma(large), expected_luma(source, depth), 1 + 2 ** (depth - 8) // 64)


def test_full_range_stays_full(upscaler):
    small = next(make_frames(1, 32, 24))
    small.color_range = 2
    for index, value in enumerate((255, 3, 250)):
        plane(small, index)[:] = value
    large = FrameUpscaler(upscaler.family, TargetSize(scale=upscaler.scale))(small)
    assert large.color_range == 2
    assert [np.unique(plane(large, index)).tolist() for index in range(3)] == [[255], [3], [250]]


def test_no_dark_border(upscaler):
    """The network sees black around its input; a white frame must stay white up to its edge."""
    small = next(make_frames(1, 32, 24))
    plane(small, 0)[:] = 235
    assert (luma(FrameUpscaler(upscaler.family, TargetSize(scale=upscaler.scale))(small)) == 235).all()


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 2), (33, 17), (15, 97)])
def test_awkward_sizes(upscaler, width, height):
    small = next(make_frames(1, width, height, "yuv444p"))
    large = FrameUpscaler(upscaler.family, TargetSize(scale=upscaler.scale))(small)
    assert_within(luma(large), expected_luma(luma(small), 8), 1)


def test_even_sides(upscaler):
    small = next(make_frames(1, 33, 17, "yuv420p"))
    upscale = FrameUpscaler(
        upscaler.family, TargetSize(scale=upscaler.scale), geometry=PixelGeometry(even=True)
    )
    assert upscale.size(33, 17) == (100, 52)
    large = upscale(small)
    odd = luma(FrameUpscaler(upscaler.family, TargetSize(scale=upscaler.scale))(small))
    np.testing.assert_array_equal(luma(large), np.pad(odd, ((0, 1), (0, 1)), mode="edge"))


def test_luma_equals_that_of_the_engine():
    from subpixel.models import catalog as packaged

    model = packaged.find("espcn-t91-x3")
    engine = NumpyEngine(model, precision="int8")
    small = next(make_frames(1, 40, 30))
    large = FrameUpscaler(Upscaler(model, engine).family, TargetSize(scale=model.scale))(small)
    halo = model.spec.halo_px
    expected = engine(np.pad(luma(small), halo, mode="edge"))[3 * halo : -3 * halo, 3 * halo : -3 * halo]
    np.testing.assert_array_equal(luma(large), expected)


def test_times_and_tags_stay(upscaler):
    small = next(make_frames(1))
    small.pts, small.duration = 1234, 77
    small.color_primaries, small.color_trc, small.colorspace = 9, 16, 9
    large = FrameUpscaler(upscaler.family, TargetSize(scale=upscaler.scale))(small)
    assert (large.pts, large.duration, large.time_base) == (1234, 77, small.time_base)
    assert (large.color_primaries, large.color_trc, large.colorspace) == (9, 16, 9)


@pytest.mark.parametrize("depth", [8, 9, 10, 12, 14])
def test_rounding_to_fewer_bits(depth):
    samples = np.arange(65536, dtype=np.uint16)
    expected = np.minimum(np.floor(samples / 2 ** (16 - depth) + 0.5), 2**depth - 1)
    np.testing.assert_array_equal(round_to_depth(samples.copy(), depth), expected)


def test_rounding_to_the_same_or_more_bits():
    eight, sixteen = np.arange(256, dtype=np.uint8), np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(round_to_depth(eight, 8), eight)
    np.testing.assert_array_equal(round_to_depth(sixteen, 16), sixteen)
    np.testing.assert_array_equal(round_to_depth(eight, 10), eight.astype(np.uint16) * 4)


@pytest.mark.parametrize("location", ["left", "center", "topleft", "top"])
@pytest.mark.parametrize("format", ["yuv420p", "yuv420p10le"])
def test_chroma_location(location, format):
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        options = {"chroma_sample_location": location}
        stream = output.add_stream("libx264", 25, width=64, height=48, pix_fmt=format, options=options)
        output.mux(stream.encode(next(make_frames(1, format=format))))
        output.mux(stream.encode())
    file.seek(0)
    with av.open(file) as source:
        assert chroma_location(next(source.decode(video=0))) == location


@pytest.mark.parametrize("format", ["yuv422p", "yuv444p", "gray", "yuv420p"])
def test_default_chroma_location(format):
    expected = "center" if format == "yuv420p" else None
    assert chroma_location(first(format)) == expected


def test_frames_of_videos_and_arrays(upscaler):
    frames = list(make_frames(5))
    large = list(upscaler.frames(iter(frames)))
    assert [frame.pts for frame in large] == [0, 1, 2, 3, 4]
    assert_within(luma(large[3]), expected_luma(luma(frames[3]), 8), 1)
    arrays = [np.random.default_rng(seed).integers(0, 256, (9, 11, 3), np.uint8) for seed in range(3)]
    for small, result in zip(arrays, upscaler.frames(arrays), strict=True):
        np.testing.assert_array_equal(result, upscaler(small))


def test_frames_whose_source_fails(upscaler):
    def camera():
        yield np.zeros((4, 4), np.uint8)
        raise OSError("unplugged")

    results = upscaler.frames(camera())
    assert next(results).shape == (12, 12)
    with pytest.raises(OSError, match="unplugged"):
        next(results)


def test_frames_that_are_not_iterable(upscaler):
    with pytest.raises(TypeError, match="not iterable"):
        list(upscaler.frames(5))


def test_one_array_is_not_frames(upscaler):
    with pytest.raises(TypeError, match=r"one after another, such as \[array\], not as one array \(4, 5\)"):
        upscaler.frames(np.zeros((4, 5), np.uint8))
    assert [large.shape for large in upscaler.frames(np.zeros((2, 4, 5), np.uint8))] == [(12, 15)] * 2


@pytest.mark.parametrize("format", ["rgb24", "gbrp"])
def test_rgb_gets_the_tags_of_its_conversion(upscaler, format):
    """The tags of RGB do not count: RGB has no matrix."""
    small = first(format)
    small.colorspace, small.color_range = 0, 2
    large = FrameUpscaler(upscaler.family, TargetSize(scale=upscaler.scale))(small)
    assert (large.colorspace, large.color_range) == (1, 1)
    back = VideoReformatter().reformat(large, 32, 24, "rgb24")
    given = VideoReformatter().reformat(small, format="rgb24").to_ndarray().astype(float)
    assert np.abs(back.to_ndarray() - given).mean() < 8


@pytest.mark.parametrize(
    ("format", "tag", "full"), [("gray", 0, True), ("gray", 1, False), ("yuv420p", 0, False)]
)
def test_gray_without_a_range_is_full(format, tag, full):
    small = first(format)
    small.color_range = tag
    assert color_tags(small)[3] == (2 if full else tag)


def test_closing_the_iterator_stops_the_threads(upscaler):
    import threading

    ended = threading.Event()

    def endless():
        try:
            while True:
                yield np.zeros((4, 4), np.uint8)
        finally:
            ended.set()

    before = set(threading.enumerate())
    results = upscaler.frames(endless())
    next(results)
    begun = {each for each in set(threading.enumerate()) - before if each.name.startswith("subpixel-stage")}
    assert begun
    results.close()
    assert ended.wait(60)
    assert not [thread for thread in begun if thread.is_alive()]


def test_helper_files_can_be_read_back(tmp_path):
    path = video_files.write(tmp_path / "a.mkv", make_frames(3), codec="ffv1")
    frames = video_files.decoded(path)
    for frame, original in zip(frames, make_frames(3), strict=True):
        np.testing.assert_array_equal(luma(frame), luma(original))


def test_sizes_and_taps_are_computed_once_for_all_frames(upscaler):
    upscale = FrameUpscaler(upscaler.family, TargetSize(scale=1.5))
    assert upscale.upsampling(64, 48) is upscale.upsampling(64, 48)
    assert upscale.upsampling(64, 48).target == (72, 96)
    assert upscale.upsampling(48, 64).target == (96, 72)
    assert upscale.size(48, 64) == (72, 96)


@pytest.mark.parametrize("format", ["yuv420p", "gray", "yuv444p10le"])
def test_frames_of_the_same_size_are_copied(upscaler, format):
    """FFmpeg's scaler returns its input if there is nothing to do."""
    small = first(format)
    before = luma(small).copy()
    upscale = FrameUpscaler(upscaler.family, TargetSize(width=32))
    gray = upscale.gray_frame(small)
    assert (luma(gray) == luma(gray)[0, 0]).all()
    large = upscale(small)
    assert large is not small
    assert (large.pts, large.color_range) == (small.pts, small.color_range)
    np.testing.assert_array_equal(luma(small), before)
    np.testing.assert_array_equal(luma(large), before)
    for index in range(1, len(small.planes)):
        np.testing.assert_array_equal(chroma(large, index), chroma(small, index))
