"""Animated GIF, PNG and WebP: composed frames, delays, plays and transparency, read by other programs."""

import io
import itertools
import json
import struct
import weakref

import av
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw
from typer.testing import CliRunner

import subpixel
from animation_files import (
    BLUE,
    COLORS,
    DELAYS_MS,
    GREEN,
    UNUSUAL_GIFS,
    apng,
    block,
    gif,
    one,
    read,
    read_vips,
    rgba,
    save,
    sticker,
    visible,
)
from image_files import png_chunk
from subpixel.cli import app
from subpixel.errors import UnreadableImage


@pytest.fixture(scope="module")
def upscaler():
    return subpixel.load("default", scale=2, engine="numpy", threads=2)


def expected(upscaler, frames):
    return np.stack([np.asarray(upscaler(frame).convert("RGBA")) for frame in frames])


@pytest.mark.parametrize("name", ["gif", "png", "webp"])
def test_a_network_for_video_has_no_history_in_animations(tmp_path, name):
    save(tmp_path / f"in.{name}", [sticker(number) for number in range(3)])
    results = []
    for model in ("video", "best"):
        output = tmp_path / f"{model}.{name}"
        result = subpixel.upscale_image(
            tmp_path / f"in.{name}", output, model=model, scale=2, precision="int8"
        )
        notes = [text for text in result.warnings if "frames before" in text]
        assert len(notes) == (model == "video")
        results.append(output.read_bytes())
    assert results[0] == results[1]
    still = subpixel.upscale_image(tmp_path / f"in.{name}", tmp_path / "a.tiff", model="video", scale=2)
    assert not [text for text in still.warnings if "frames before" in text]


@pytest.mark.parametrize("target", ["gif", "png", "webp"])
@pytest.mark.parametrize("source", ["gif", "png", "webp"])
def test_from_format_to_format(tmp_path, upscaler, source, target):
    """Delays and plays are kept; GIF's number of repetitions is one less than the plays of the others."""
    frames = [sticker(number) for number in range(5)]
    options = {"loop": 2 if source == "gif" else 3}
    save(tmp_path / f"in.{source}", frames, **options, **({"disposal": 2} if source == "gif" else {}))
    result = subpixel.upscale_image(
        tmp_path / f"in.{source}", tmp_path / f"out.{target}", upscaler=upscaler, quality=100
    )
    assert (result.width, result.height, result.frames) == (80, 60, 5)
    samples, delays, plays = read(tmp_path / f"out.{target}")
    assert (delays, plays) == (DELAYS_MS, 3)
    large = expected(upscaler, frames)
    if target != "gif":
        assert np.array_equal(visible(samples), visible(large))
        return
    assert np.array_equal(samples[..., 3] > 0, large[..., 3] >= 128)
    differences = np.abs(samples.astype(int) - large)[samples[..., 3] > 0]
    assert differences[:, :3].max() < 24 and differences[:, :3].mean() < 1


@pytest.mark.parametrize(("repeats", "plays"), [(None, 1), (0, 0), (1, 2)])
def test_plays_of_a_gif(tmp_path, upscaler, repeats, plays):
    options = {} if repeats is None else {"loop": repeats}
    save(tmp_path / "in.gif", [sticker(0), sticker(1)], disposal=2, **options)
    for name in ("out.gif", "out.png", "out.webp"):
        subpixel.upscale_image(tmp_path / "in.gif", tmp_path / name, upscaler=upscaler)
        assert read(tmp_path / name)[2] == plays
    with Image.open(tmp_path / "out.gif") as image:
        assert image.info.get("loop") == repeats


@pytest.mark.parametrize(
    ("encoder", "name", "pixels"),
    [("gif", "in.gif", "rgb8"), ("apng", "in.png", "rgb24"), ("libwebp_anim", "in.webp", "bgra")],
)
def test_files_of_ffmpeg(tmp_path, upscaler, encoder, name, pixels):
    frames = [sticker(number, alpha=False) for number in range(4)]
    with av.open(str(tmp_path / name), "w", format=encoder.removeprefix("lib").split("_")[0]) as video:
        stream = video.add_stream(encoder, rate=25)
        stream.width, stream.height, stream.pix_fmt = 40, 30, pixels
        stream.options = {"lossless": "1"} if "webp" in encoder else {}
        for frame in frames:
            video.mux(stream.encode(av.VideoFrame.from_image(frame).reformat(format=pixels)))
        video.mux(stream.encode())
    if pixels == "rgb8":  # FFmpeg reduces the colors
        with av.open(str(tmp_path / name)) as video:
            frames = [Image.fromarray(frame.to_ndarray(format="rgb24")) for frame in video.decode(video=0)]
    result = subpixel.upscale_image(tmp_path / name, tmp_path / "out.png", upscaler=upscaler)
    samples, delays, plays = read(tmp_path / "out.png")
    assert result.frames == 4
    assert np.array_equal(samples, expected(upscaler, frames))
    assert delays[:3] == [40] * 3
    assert plays == {"in.gif": 0}.get(name, 1)


def test_what_stands_still_does_not_flicker(tmp_path, upscaler):
    """All frames of a photograph with a moving disk have the same palette, and no dithering."""
    rng = np.random.default_rng(1)
    ground = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((40, 30), 3)
    frames = []
    for number in range(6):
        frame = ground.copy()
        ImageDraw.Draw(frame).ellipse((number * 2, 5, number * 2 + 6, 11), fill=(255, 255, 255))
        frames.append(frame)
    save(tmp_path / "in.png", frames, duration=50)
    result = subpixel.upscale_image(tmp_path / "in.png", tmp_path / "out.gif", upscaler=upscaler)
    assert any("255 colors" in warning for warning in result.warnings)
    samples, _, _ = read(tmp_path / "out.gif")
    large = expected(upscaler, frames)
    for before, after in itertools.pairwise(range(6)):
        still = (large[before] == large[after]).all(-1)
        assert still.mean() > 0.3
        assert np.array_equal(samples[before][still], samples[after][still])
    assert np.abs(samples.astype(int) - large).mean() < 6


def test_few_colors_are_exact(tmp_path, upscaler):
    """Flat areas of a GIF keep their colors."""
    frames = [sticker(number, alpha=False) for number in range(3)]
    save(tmp_path / "in.gif", frames)
    subpixel.upscale_image(tmp_path / "in.gif", tmp_path / "out.gif", upscaler=upscaler)
    samples, _, _ = read(tmp_path / "out.gif")
    assert samples[0][2, 2].tolist() == [240, 240, 200, 255]
    assert samples[2][44, 64].tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize("name", UNUSUAL_GIFS)
def test_unusual_gifs(tmp_path, upscaler, name):
    (tmp_path / "in.gif").write_bytes(UNUSUAL_GIFS[name])
    frames, delays, plays = read_vips(tmp_path / "in.gif")
    subpixel.upscale_image(tmp_path / "in.gif", tmp_path / "out.png", upscaler=upscaler)
    samples, *times = read(tmp_path / "out.png")
    assert times == [delays, plays]
    large = expected(upscaler, map(Image.fromarray, frames))
    assert np.array_equal(visible(samples), visible(large))
    subpixel.upscale_image(tmp_path / "in.gif", tmp_path / "out.gif", upscaler=upscaler)
    assert np.array_equal(read(tmp_path / "out.gif")[0][..., 3] > 0, large[..., 3] >= 128)


def test_frames_that_are_too_short_for_browsers_are_counted_in_the_output(tmp_path, upscaler):
    colors = [(40 * number, 0, 90) for number in range(6)]
    save(tmp_path / "in.webp", [Image.new("RGB", (8, 8), color) for color in colors], duration=[17] * 6)
    result = subpixel.upscale_image(tmp_path / "in.webp", tmp_path / "out.gif", upscaler=upscaler)
    delays = read_vips(tmp_path / "out.gif")[1]
    assert sum(delays) == 100 and set(delays) == {10, 20}
    assert any(f"and it has {delays.count(10)} of them" in warning for warning in result.warnings)


def test_an_uncovered_screen_is_transparent(tmp_path, upscaler):
    """As browsers show it, also if no color is marked as transparent."""
    blocks = [block(4, 4, one(4, 4, GREEN), duration=100), block(8, 2, one(4, 4, BLUE), duration=100)]
    (tmp_path / "in.gif").write_bytes(gif(16, 12, *blocks))
    subpixel.upscale_image(tmp_path / "in.gif", tmp_path / "out.webp", upscaler=upscaler)
    samples, _, _ = read(tmp_path / "out.webp")
    assert not samples[:, :3, :3, 3].any() and (samples[:, 12, 12, 3] == 255).all()


def test_comment_and_xmp_of_a_gif(tmp_path, upscaler):
    frames = [sticker(0), sticker(1)]
    save(tmp_path / "in.gif", frames, comment=b"c" * 300, disposal=2)
    packet = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + b"x" * 400 + b"</x:xmpmeta>"
    trailer = b"\x01" + bytes(range(255, -1, -1)) + b"\0"
    data = (tmp_path / "in.gif").read_bytes()
    at = data.index(b"!\xfe")
    (tmp_path / "in.gif").write_bytes(data[:at] + b"!\xff\x0bXMP DataXMP" + packet + trailer + data[at:])
    result = subpixel.upscale_image(tmp_path / "in.gif", tmp_path / "out.gif", upscaler=upscaler)
    assert result.warnings == ()
    with Image.open(tmp_path / "out.gif") as image:
        assert image.info["comment"] == b"c" * 300
    assert b"!\xff\x0bXMP DataXMP" + packet + trailer in (tmp_path / "out.gif").read_bytes()
    result = subpixel.upscale_image(tmp_path / "in.gif", tmp_path / "out.webp", upscaler=upscaler)
    assert result.warnings == ("its comment does not fit into a WebP file and was dropped",)
    with Image.open(tmp_path / "out.webp") as image:
        assert image.info["xmp"] == packet


def test_disposal_and_blending_of_an_apng(tmp_path, upscaler):
    """FFmpeg composes the same frames, but for the rounding of blended colors."""
    parts = [
        (0, 0, rgba(12, 16, 200, 100, 50, 128), 100, 0, 0),
        (2, 2, rgba(6, 6, 0, 255, 0, 100), 50, 2, 1),
        (8, 3, rgba(6, 6, 0, 0, 255, 255), 50, 1, 1),
        (1, 1, rgba(8, 8, 255, 255, 255, 30), 50, 0, 0),
        (4, 4, rgba(8, 8, 9, 9, 9, 200), 33, 0, 1),
    ]
    (tmp_path / "in.png").write_bytes(apng(parts, (16, 12, 8, 6)))
    composed = read(tmp_path / "in.png")[0]
    subpixel.upscale_image(tmp_path / "in.png", tmp_path / "out.png", upscaler=upscaler)
    samples, delays, _ = read(tmp_path / "out.png")
    assert delays == [100, 50, 50, 50, 33]
    large = expected(upscaler, map(Image.fromarray, composed))
    assert np.array_equal(samples[..., 3] > 0, large[..., 3] > 0)
    assert np.abs(visible(samples).astype(int) - visible(large)).max() <= 3


def test_a_hidden_default_image(tmp_path, upscaler):
    """Programs without animations show it; it is not part of the animation."""
    parts = [(0, 0, rgba(12, 16, value, 9, 9), 100, 0, 0) for value in (50, 150)]
    (tmp_path / "in.png").write_bytes(apng(parts, (16, 12, 8, 2), default=rgba(12, 16, 255, 0, 0)))
    result = subpixel.upscale_image(
        tmp_path / "in.png", tmp_path / "out.webp", upscaler=upscaler, quality=100
    )
    assert result.frames == 2
    assert result.warnings == ("its default image, which is not a frame of the animation, was dropped",)
    assert read(tmp_path / "out.webp")[0][:, 9, 9].tolist() == [[50, 9, 9, 255], [150, 9, 9, 255]]


def test_16_bits(tmp_path, upscaler):
    ramp = np.linspace(0, 65535, 16 * 12 * 3).astype(np.uint16).reshape(12, 16, 3)
    parts = [(0, 0, ramp, 100, 0, 0), (0, 0, ramp[::-1], 100, 0, 0)]
    (tmp_path / "in.png").write_bytes(apng(parts, (16, 12, 16, 2)))
    result = subpixel.upscale_image(tmp_path / "in.png", tmp_path / "out.png", upscaler=upscaler)
    assert result.warnings == ()
    assert np.array_equal(read(tmp_path / "out.png")[0][1][..., :3], upscaler(ramp[::-1].copy()))
    result = subpixel.upscale_image(tmp_path / "in.png", tmp_path / "out.webp", upscaler=upscaler)
    assert result.warnings == ("reduced from 16 to 8 bits per sample, the limit of WebP",)


@pytest.mark.parametrize("color", [0, 3, 4])
def test_colors_of_an_apng(tmp_path, upscaler, color):
    """Gray, a palette with a transparent color, gray with alpha."""
    rng = np.random.default_rng(2)
    shape = (12, 16, 2) if color == 4 else (12, 16, 1)
    parts = [(0, 0, rng.integers(0, 4, shape, np.uint8) * (1 if color == 3 else 60), 100, 0, 0) for _ in "ab"]
    chunks = [(b"PLTE", bytes(sum(COLORS, ()))), (b"tRNS", b"\xff\x00")] if color == 3 else []
    (tmp_path / "in.png").write_bytes(apng(parts, (16, 12, 8, color), *chunks))
    frames = read(tmp_path / "in.png")[0]
    if color != 3:
        frames = frames[..., [0, 3] if color == 4 else 0]
    large = expected(upscaler, map(Image.fromarray, frames))
    for name in ("out.png", "out.webp", "out.gif"):
        subpixel.upscale_image(tmp_path / "in.png", tmp_path / name, upscaler=upscaler, quality=100)
        samples, _, _ = read(tmp_path / name)
        if name != "out.gif":
            assert np.array_equal(visible(samples), visible(large))
        assert np.array_equal(samples[..., 3] >= 128, large[..., 3] >= 128)


@pytest.mark.parametrize("name", ["in.gif", "in.png", "in.webp"])
def test_formats_without_animation_get_the_first_frame(tmp_path, upscaler, name):
    frames = [sticker(number, alpha=False) for number in range(3)]
    save(tmp_path / name, frames)
    result = subpixel.upscale_image(tmp_path / name, tmp_path / "out.tiff", upscaler=upscaler)
    assert "animation of 3 frames, of which only the first" in result.warnings[0]
    assert result.frames == 1
    with Image.open(tmp_path / "out.tiff") as image:
        assert np.array_equal(np.asarray(image), np.asarray(upscaler(frames[0])))


@pytest.mark.parametrize("alpha", [False, True])
def test_a_still_gif(tmp_path, upscaler, alpha):
    sticker(2, alpha=alpha).save(tmp_path / "in.gif")
    result = subpixel.upscale_image(tmp_path / "in.gif", tmp_path / "out.gif", upscaler=upscaler)
    assert result.frames == 1
    with Image.open(tmp_path / "out.gif") as image, Image.open(tmp_path / "in.gif") as small:
        assert not image.is_animated and not image.info["duration"]
        large = np.asarray(upscaler(small).convert("RGBA"))
        got = np.asarray(image.convert("RGBA"))
    assert np.array_equal(got[..., 3] == 255, large[..., 3] >= 128)
    assert np.abs(got.astype(int) - large)[got[..., 3] == 255][:, :3].max() < 24


def test_equal_frames_are_computed_once(tmp_path, upscaler, monkeypatch):
    calls = []

    def count(*arguments, **options):
        calls.append(arguments)
        return original(*arguments, **options)

    from subpixel.images.animations import upscale

    original = upscale.upscale_array
    monkeypatch.setattr(upscale, "upscale_array", count)
    frames = [rgba(12, 16, value, 9, 9) for value in (50, 50, 90, 90, 90)]
    (tmp_path / "in.png").write_bytes(apng([(0, 0, frame, 30, 0, 0) for frame in frames], (16, 12, 8, 2)))
    for name in ("out.png", "out.gif"):
        calls.clear()
        result = subpixel.upscale_image(tmp_path / "in.png", tmp_path / name, upscaler=upscaler)
        assert (len(calls), result.frames, len(read(tmp_path / name)[0])) == (2, 5, 5)


@pytest.mark.parametrize("name", ["in.gif", "in.png", "in.webp"])
@pytest.mark.parametrize("keep", [0.3, 0.7, 0.97])
def test_truncated(tmp_path, upscaler, name, keep):
    rng = np.random.default_rng(3)
    save(tmp_path / name, [Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)) for _ in range(3)])
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(UnreadableImage, match=rf"{name}: "):
        subpixel.upscale_image(tmp_path / name, tmp_path / "out.webp", upscaler=upscaler)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_bytes_and_progress(upscaler):
    file, large, calls = io.BytesIO(), io.BytesIO(), []
    sticker(0).save(file, "WEBP", save_all=True, append_images=[sticker(1), sticker(2)], duration=50)
    result = subpixel.upscale_image(
        file.getvalue(), large, format="gif", upscaler=upscaler, progress=calls.append
    )
    assert result.frames == 3
    assert [(call.frames, call.total_frames) for call in calls] == [(1, 3), (2, 3), (3, 3)]
    assert calls[-1].fraction == 1
    assert large.getvalue().startswith(b"GIF89a")


@pytest.mark.parametrize("name", ["out.gif", "out.png", "out.webp"])
def test_frames_do_not_gather_in_memory(tmp_path, upscaler, monkeypatch, name):
    from subpixel.images.animations import upscale

    alive, most = 0, 0

    def track(*arguments, **options):
        nonlocal alive, most
        result = original(*arguments, **options)
        alive += 1
        most = max(most, alive)
        weakref.finalize(result, forget)
        return result

    def forget():
        nonlocal alive
        alive -= 1

    original = upscale.upscale_array
    monkeypatch.setattr(upscale, "upscale_array", track)
    frames = [rgba(12, 16, number, 9, 9) for number in range(60)]
    (tmp_path / "in.png").write_bytes(apng([(0, 0, frame, 30, 0, 0) for frame in frames], (16, 12, 8, 2)))
    result = subpixel.upscale_image(tmp_path / "in.png", tmp_path / name, upscaler=upscaler)
    assert result.frames == 60
    assert most < 12


def test_the_command(tmp_path):
    """In a folder, each animation keeps its name and format; a still GIF stays a GIF."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.gif", "b.webp", "c.png"):
        save(folder / name, [sticker(0), sticker(1)], **({"disposal": 2} if name == "a.gif" else {}))
    sticker(0).save(folder / "d.gif")
    arguments = ["upscale", str(folder), "-o", str(tmp_path / "out"), "--json", "--engine", "numpy"]
    result = CliRunner().invoke(app, [*arguments, "--quality", "100"])
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["output"], line["frames"]) for line in lines] == [
        (str(tmp_path / "out" / name), frames)
        for name, frames in (("a.gif", 2), ("b.webp", 2), ("c.png", 2), ("d.gif", 1))
    ]
    for name in ("a.gif", "b.webp", "c.png"):
        assert read(tmp_path / "out" / name)[1] == DELAYS_MS[:2]
    result = CliRunner().invoke(
        app, ["upscale", str(folder / "a.gif"), "-o", str(tmp_path / "e.apng"), "--progress", "json"]
    )
    assert json.loads(result.stderr.splitlines()[-1]) == {
        "input": str(folder / "a.gif"),
        "progress": 1,
        "frames": 2,
        "total": 2,
    }


def test_limits_count_one_frame(tmp_path, upscaler):
    save(tmp_path / "in.png", [sticker(number) for number in range(5)])
    for name in ("out.gif", "out.png", "out.webp"):
        files = tmp_path / "in.png", tmp_path / name
        with pytest.raises(subpixel.ImageTooLarge, match="80 x 60 pixels, more than the limit of 4799"):
            subpixel.upscale_image(*files, upscaler=upscaler, max_output_pixels=4799)
        assert subpixel.upscale_image(*files, upscaler=upscaler, max_output_pixels=4800).frames == 5


def test_long_delays(tmp_path, upscaler):
    save(tmp_path / "in.webp", [sticker(0), sticker(1)], duration=[700_000, 50])
    result = subpixel.upscale_image(tmp_path / "in.webp", tmp_path / "out.gif", upscaler=upscaler)
    assert "delays are cut to 655 s, the limit of GIF" in result.warnings
    assert read(tmp_path / "out.gif")[1] == [655_350, 50]
    subpixel.upscale_image(tmp_path / "in.webp", tmp_path / "out.png", upscaler=upscaler)
    assert read(tmp_path / "out.png")[1] == [700_000, 50]


def test_rounded_delays_do_not_add_up(tmp_path, upscaler):
    """The start of each frame is the nearest possible one: 33 ms become 30, 40, 30 ms."""
    save(tmp_path / "in.webp", [sticker(number) for number in range(6)], duration=33)
    subpixel.upscale_image(tmp_path / "in.webp", tmp_path / "out.gif", upscaler=upscaler)
    delays = read(tmp_path / "out.gif")[1]
    assert set(delays) == {30, 40} and sum(delays) == 200


def test_out_of_memory(tmp_path, upscaler, monkeypatch):
    def run_out(*arguments, **options):
        raise MemoryError("Unable to allocate 7 EiB")

    monkeypatch.setattr("subpixel.images.animations.upscale.upscale_array", run_out)
    save(tmp_path / "in.png", [sticker(0), sticker(1)])
    for name in ("out.gif", "out.png", "out.webp"):
        with pytest.raises(subpixel.ImageTooLarge, match=r"in\.png: .*does not fit into memory"):
            subpixel.upscale_image(tmp_path / "in.png", tmp_path / name, upscaler=upscaler)
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


def test_an_interruption_leaves_no_file(tmp_path, upscaler):
    def interrupt(progress):
        raise KeyboardInterrupt

    save(tmp_path / "in.png", [sticker(number) for number in range(5)])
    for name in ("out.gif", "out.png", "out.webp"):
        with pytest.raises(KeyboardInterrupt):
            subpixel.upscale_image(
                tmp_path / "in.png", tmp_path / name, upscaler=upscaler, progress=interrupt
            )
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


@pytest.mark.parametrize("name", ["in.png", "in.webp"])
def test_orientation(tmp_path, upscaler, name):
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [sticker(number, alpha=False) for number in range(2)]
    save(tmp_path / name, frames, exif=exif)
    subpixel.upscale_image(tmp_path / name, tmp_path / "out.png", upscaler=upscaler)
    upright = [frame.transpose(Image.Transpose.ROTATE_270) for frame in frames]
    assert np.array_equal(read(tmp_path / "out.png")[0], expected(upscaler, upright))
    with Image.open(tmp_path / "out.png") as image:
        assert image.getexif()[0x0112] == 1


def test_the_color_profile_is_kept(tmp_path, upscaler):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    save(tmp_path / "in.webp", [sticker(0), sticker(1)], icc_profile=profile)
    for name, warnings in (("out.png", 0), ("out.webp", 0), ("out.gif", 1)):
        result = subpixel.upscale_image(tmp_path / "in.webp", tmp_path / name, upscaler=upscaler)
        dropped = [warning for warning in result.warnings if "color profile" in warning]
        assert len(dropped) == warnings
        with Image.open(tmp_path / name) as image:
            assert image.info.get("icc_profile") == (None if warnings else profile)


@pytest.mark.parametrize("colors", [255, 256])
@pytest.mark.parametrize("frames", [1, 3])
def test_all_colors_of_a_palette(tmp_path, colors, frames):
    """Rules that copy whole pixels make no new colors, and none is lost."""
    rng = np.random.default_rng(4)
    palette = rng.permutation(256**3)[:colors]
    values = np.stack([palette >> 16, palette >> 8 & 255, palette & 255], axis=1).astype(np.uint8)
    images = [Image.fromarray(values[rng.permutation(768).reshape(24, 32) % colors]) for _ in range(frames)]
    save(tmp_path / "in.png", images, duration=50)
    result = subpixel.upscale_image(tmp_path / "in.png", tmp_path / "out.gif", model="nearest", scale=2)
    assert result.warnings == ()
    samples = read_vips(tmp_path / "out.gif")[0] if frames > 1 else None
    if samples is None:
        with Image.open(tmp_path / "out.gif") as image:
            samples = np.asarray(image.convert("RGBA"))[None]
    for large, small in zip(samples, images, strict=True):
        assert np.array_equal(large[..., :3], np.asarray(small).repeat(2, 0).repeat(2, 1))


def test_nothing_visible(tmp_path, upscaler):
    empty = Image.new("RGBA", (20, 10))
    save(tmp_path / "in.webp", [sticker(0).crop((0, 0, 20, 10)), empty])
    for name in ("out.gif", "out.png", "out.webp"):
        subpixel.upscale_image(tmp_path / "in.webp", tmp_path / name, upscaler=upscaler)
        assert read(tmp_path / name)[0][..., 3].any(axis=(1, 2)).tolist() == [True, False]


def test_frames_that_are_missing(tmp_path, upscaler):
    """The header of an APNG states more frames than there are."""
    frames = [rgba(12, 16, value, 9, 9) for value in (50, 150)]
    data = apng([(0, 0, frame, 30, 0, 0) for frame in frames], (16, 12, 8, 2))
    data = data.replace(
        png_chunk(b"acTL", struct.pack(">II", 2, 0)), png_chunk(b"acTL", struct.pack(">II", 9, 0))
    )
    (tmp_path / "in.png").write_bytes(data)
    result = subpixel.upscale_image(tmp_path / "in.png", tmp_path / "out.png", upscaler=upscaler)
    assert result.warnings == ("only 2 of its 9 frames are there",)
    assert len(read(tmp_path / "out.png")[0]) == 2


def test_a_gif_without_its_end(tmp_path, upscaler):
    (tmp_path / "in.gif").write_bytes(UNUSUAL_GIFS["interlaced"][:-1])
    result = subpixel.upscale_image(tmp_path / "in.gif", tmp_path / "out.gif", upscaler=upscaler)
    assert (result.frames, result.warnings) == (2, ("its end is missing, perhaps with further frames",))
