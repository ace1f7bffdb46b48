"""Videos of pixel art: planes are repeated."""

import av
import numpy as np
import pytest

import subpixel
from subpixel.video.media.pixel_formats import plane

FRAMES = 3


def write(path, format, width=48, height=36):
    """Write frames of few colors without loss, and return their planes."""
    rng = np.random.default_rng(0)
    written = []
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", 25)
        stream.width, stream.height, stream.pix_fmt = width, height, format
        for _ in range(FRAMES):
            frame = av.VideoFrame(width, height, format)
            planes = range(len(frame.planes))
            for index in planes:
                shape = plane(frame, index).shape
                plane(frame, index)[...] = rng.choice(np.array([40, 90, 200]), shape)
            written.append([plane(frame, index).copy() for index in planes])
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return written


def read(path):
    with av.open(str(path)) as video:
        return [[plane(frame, i).copy() for i in range(len(frame.planes))] for frame in video.decode(video=0)]


@pytest.mark.parametrize("format", ["yuv420p", "yuv444p", "gray", "yuv422p10le"])
@pytest.mark.parametrize("scale", [2, 3])
def test_integer_factors_repeat_every_plane(tmp_path, format, scale):
    small = write(tmp_path / "a.mkv", format)
    result = subpixel.upscale_video(
        tmp_path / "a.mkv", tmp_path / "b.mkv", content="pixel-art", scale=scale, codec="ffv1"
    )
    assert (result.model, result.engine, result.content) == (f"nearest-x{scale}", "numpy", "pixel-art")
    large = read(tmp_path / "b.mkv")
    assert len(large) == FRAMES
    for before, after in zip(small, large, strict=True):
        for one, other in zip(before, after, strict=True):
            np.testing.assert_array_equal(other, np.kron(one, np.ones((scale, scale), one.dtype)))


def test_odd_sides(tmp_path):
    small = write(tmp_path / "a.mkv", "yuv420p", 33, 27)
    subpixel.upscale_video(tmp_path / "a.mkv", tmp_path / "b.mp4", model="nearest", scale=3, crf=0)
    luma, cb, _ = read(tmp_path / "b.mp4")[0]
    assert (luma.shape, cb.shape) == ((82, 100), (41, 50))  # even, as libx264 needs
    np.testing.assert_array_equal(luma[:81, :99], np.kron(small[0][0], np.ones((3, 3), np.uint8)))
    np.testing.assert_array_equal(luma[:, 99], luma[:, 98])
    np.testing.assert_array_equal(cb, np.kron(small[0][1], np.ones((3, 3), np.uint8))[:41, :50])


def test_sizes_average_areas(tmp_path):
    small = write(tmp_path / "a.mkv", "yuv444p", 40, 30)
    subpixel.upscale_video(tmp_path / "a.mkv", tmp_path / "b.mkv", model="nearest", scale=1.5, codec="ffv1")
    fine = np.kron(small[0][0].astype(float), np.ones((3, 3)))
    expected = fine.reshape(45, 2, 60, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(read(tmp_path / "b.mkv")[0][0], expected, rtol=0, atol=0.51)


def test_epx_compares_whole_pixels(tmp_path):
    small = write(tmp_path / "a.mkv", "yuv444p")
    subpixel.upscale_video(tmp_path / "a.mkv", tmp_path / "b.mkv", model="epx", scale=3, codec="ffv1")
    expected = subpixel.load("epx", scale=3)(np.stack(small[1], axis=-1))
    np.testing.assert_array_equal(np.stack(read(tmp_path / "b.mkv")[1], axis=-1), expected)
    write(tmp_path / "c.mkv", "yuv420p")
    with pytest.raises(subpixel.UnsupportedVideo, match=r"c\.mkv.*-m nearest"):
        subpixel.upscale_video(tmp_path / "c.mkv", tmp_path / "d.mkv", model="epx")
    assert not (tmp_path / "d.mkv").exists()


@pytest.mark.parametrize("format", ["rgb24", "nv12", "yuva420p", "yuvj420p", "rgb48le"])
def test_frames_of_other_formats(format):
    """Flat halves, whose colors survive the conversion to planes."""
    rgb = np.full((16, 16, 3), 40, np.uint8)
    rgb[:, 8:] = 200, 60, 90
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=format)
    large = next(subpixel.load("nearest", scale=3).frames([frame]))
    assert (large.width, large.height) == (48, 48)
    luma = plane(large, 0)
    for half in (luma[:, :24], luma[:, 24:]):
        assert (half == half[0, 0]).all()
    assert luma[0, 0] != luma[0, 24]


def test_an_interrupted_job_does_not_mix_rules(tmp_path):
    """The rule is a part of the job's fingerprint."""
    from subpixel.video import job

    write(tmp_path / "a.mkv", "yuv444p")
    prints = []

    def fingerprint(*arguments, **options):
        prints.append(original(*arguments, **options))
        return prints[-1]

    original = job.fingerprint_of
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "fingerprint_of", fingerprint)
        for number, model in enumerate(("nearest", "epx")):
            subpixel.upscale_video(tmp_path / "a.mkv", tmp_path / f"{number}.mkv", model=model, codec="ffv1")
    assert prints[0]["model"] == "nearest-x2"
    assert prints[1]["model"] == "epx-x2"
