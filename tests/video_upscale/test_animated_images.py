"""Animated images that become videos."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageDraw

import subpixel
from subpixel.video.animated import as_video

DELAYS_MS = [100, 10, 40, 30, 120]


@pytest.fixture(scope="module")
def upscaler():
    return subpixel.load("default", scale=2, engine="numpy", threads=1)


def write(path, *, alpha=False, delays=DELAYS_MS, **options):
    frames = []
    for number in range(len(delays)):
        frame = Image.new("RGBA", (40, 30), (0, 0, 0, 0) if alpha else (240, 240, 200, 255))
        ImageDraw.Draw(frame).ellipse((number * 4, 5, number * 4 + 12, 17), fill=(255, 40 * number, 0, 255))
        frames.append(frame if alpha else frame.convert("RGB"))
    if path.suffix == ".webp":
        options |= {"lossless": True}
    if path.suffix == ".gif":
        options |= {"disposal": 2}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=delays, **options)


def decode(path):
    """Frames, and their times and the end of the last one in ms."""
    with av.open(str(path)) as video:
        frames = list(video.decode(video=0))
        times = [round(frame.time * 1000) for frame in frames]
        end = round(times[-1] + frames[-1].duration * frames[-1].time_base * 1000)
        return [frame.to_ndarray(format="rgb24") for frame in frames], [*times, end]


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
@pytest.mark.parametrize("name", ["in.gif", "in.png", "in.webp"])
def test_delays_become_times(tmp_path, upscaler, name, extension):
    write(tmp_path / name, loop=3)
    output = tmp_path / f"out.{extension}"
    result = subpixel.upscale_video(tmp_path / name, output, upscaler=upscaler, crf=1)
    plays = 4 if name == "in.gif" else 3
    assert result.warnings == (f"plays {plays} times as an animation, and once as a video",)
    assert (result.frames, result.input) == (5, str(tmp_path / name))
    frames, times = decode(output)
    assert times == [0, *np.cumsum(DELAYS_MS)]
    assert np.abs(frames[0][2, 2].astype(int) - (240, 240, 200)).max() <= 4
    assert np.abs(frames[3][22, 36].astype(int) - (255, 120, 0)).max() <= 8


@pytest.mark.parametrize("name", ["in.gif", "in.png", "in.webp"])
def test_transparency_becomes_white(tmp_path, upscaler, name):
    write(tmp_path / name, alpha=True, loop=0)
    result = subpixel.upscale_video(tmp_path / name, tmp_path / "out.mp4", upscaler=upscaler)
    assert "its transparency became white" in result.warnings
    assert decode(tmp_path / "out.mp4")[0][0][2, 2].min() >= 250


@pytest.mark.parametrize(("name", "delay"), [("in.gif", 70), ("in.webp", 100)])
def test_a_single_frame_is_shown_on_white(tmp_path, upscaler, name, delay):
    if name == "in.gif":
        write(tmp_path / name, alpha=True, delays=[delay], loop=0)
    else:  # Pillow writes a still image; FFmpeg writes an animation, with a delay of 0
        with av.open(tmp_path / name, "w") as file:
            stream = file.add_stream("libwebp_anim", rate=25)
            stream.width, stream.height, stream.pix_fmt = 40, 30, "bgra"
            samples = np.zeros((30, 40, 4), np.uint8)
            samples[5:17, :12] = 0, 0, 255, 255
            file.mux(stream.encode(av.VideoFrame.from_ndarray(samples, "bgra")))
            file.mux(stream.encode())
    result = subpixel.upscale_video(tmp_path / name, tmp_path / "out.mkv", upscaler=upscaler)
    assert "its transparency became white" in result.warnings
    assert not any("once as a video" in warning for warning in result.warnings)
    frames, times = decode(tmp_path / "out.mkv")
    assert times == [0, delay]
    assert frames[0][50, 70].min() >= 250 and np.abs(frames[0][22, 12].astype(int) - (255, 0, 0)).max() <= 8


def test_frames_without_a_delay(tmp_path, upscaler):
    write(tmp_path / "in.webp", delays=[50, 0, 50], loop=0)
    result = subpixel.upscale_video(tmp_path / "in.webp", tmp_path / "out.mkv", upscaler=upscaler)
    assert "frames without a delay are shown for 0.1 s, as in browsers" in result.warnings
    assert decode(tmp_path / "out.mkv")[1] == [0, 50, 150, 200]


def test_a_part(tmp_path, upscaler):
    write(tmp_path / "in.webp", loop=0)
    subpixel.upscale_video(tmp_path / "in.webp", tmp_path / "out.mkv", upscaler=upscaler, start=0.11, end=0.2)
    assert decode(tmp_path / "out.mkv")[1][:-1] == [0, 40, 70]


def test_a_damaged_animation(tmp_path, upscaler):
    write(tmp_path / "in.webp", loop=0)
    data = (tmp_path / "in.webp").read_bytes()
    (tmp_path / "in.webp").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(subpixel.InputError, match=r"in\.webp: .*damaged"):
        subpixel.upscale_video(tmp_path / "in.webp", tmp_path / "out.mkv", upscaler=upscaler)
    assert [path.name for path in tmp_path.iterdir()] == ["in.webp"]


def test_a_screen_that_is_too_large(tmp_path, upscaler):
    write(tmp_path / "in.gif")
    data = bytearray((tmp_path / "in.gif").read_bytes())
    data[6:10] = b"\xff\xff\xff\xff"
    (tmp_path / "in.gif").write_bytes(data)
    with pytest.raises(subpixel.ImageTooLarge, match=r"in\.gif: 65535 x 65535 pixels would need"):
        subpixel.upscale_video(tmp_path / "in.gif", tmp_path / "out.mkv", upscaler=upscaler)


@pytest.mark.parametrize("name", ["out.gif", "out.webp", "out.apng"])
def test_a_video_does_not_become_an_animation(tmp_path, upscaler, name):
    write(tmp_path / "in.gif")
    subpixel.upscale_video(tmp_path / "in.gif", tmp_path / "in.mkv", upscaler=upscaler)
    with pytest.raises(subpixel.OutputError, match="cannot become an animated image; write a video"):
        subpixel.upscale_video(tmp_path / "in.mkv", tmp_path / name, upscaler=upscaler)


@pytest.mark.parametrize("name", ["in.gif", "in.png", "in.webp"])
def test_an_interrupted_job_finds_the_same_input(tmp_path, name):
    """The digest of the input tells whether finished segments can be used."""
    write(tmp_path / name, alpha=True)
    contents = []
    for _ in range(2):
        with as_video(str(tmp_path / name), []) as path:
            contents.append(Path(path).read_bytes())
    assert contents[0] == contents[1]
