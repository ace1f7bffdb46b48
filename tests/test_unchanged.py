"""Luma that did not change is copied from the frame before, and the result is the same to the bit."""

import gc
import json
import threading
import weakref

import numpy as np
import pytest
from typer.testing import CliRunner

import subpixel
from random_models import quantized_model
from subpixel.cli import app
from subpixel.engines.family import ModelFamily
from subpixel.models.spec import Convolution, ModelSpec
from subpixel.sizes import PixelGeometry, TargetSize
from subpixel.video.media.pixel_formats import plane
from subpixel.video.pipeline import encode, links, unchanged
from subpixel.video.pipeline.frames import FrameUpscaler
from subpixel.video.pipeline.links import FrameLink, linked
from subpixel.video.pipeline.stages import ParallelStage
from video_files import decoded, frames_of, luma, write

RESIDUAL = ModelSpec(
    2, (Convolution(1, 8, 5, "relu"), Convolution(8, 8, 3, "prelu"), Convolution(8, 4, 3)), residual="nearest"
)
PLAIN = ModelSpec(3, (Convolution(1, 8, 3, "relu"), Convolution(8, 9, 3)))


def picture(height, width, seed=0):
    """Return noise on a ramp, with a flat part."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    samples = 60 + 80 * x / width + 40 * y / height + rng.integers(0, 60, (height, width))
    samples[: height // 3, : width // 3] = 200
    return samples.astype(np.uint8)


def film(kind, height, width, count=5):
    """Return the luma of a short film."""
    still, other = picture(height, width), picture(height, width, 1)
    planes = [still.copy() for _ in range(count)]
    for number, each in enumerate(planes):
        if kind == "slides" and number > count // 2:
            each[...] = other
        elif kind == "object":
            top, left = 3 + number, 5 + 9 * number
            each[top : top + 12, left : left + 10] = 255 - other[:12, :10]
        elif kind == "scattered":
            rng = np.random.default_rng(number)
            for top, left in rng.integers(0, (height, width), (6, 2)):
                each[top : top + 3, left : left + 5] ^= 1
        elif kind == "corner":
            each[-1, -1] = number
            each[0, -1] = number // 2
        elif kind == "scroll":
            each[...] = np.roll(still, 3 * number, axis=0)
        elif kind == "noise":
            each[...] = picture(height, width, number)
        elif kind == "fade":
            each[...] = each * (1 - number / 10)
    return planes


KINDS = {"static": (0.8, 0.8), "slides": (0.6, 0.6), "object": (0.2, 0.75), "scattered": (0, 0.7)}
KINDS |= {"corner": (0.5, 0.79), "scroll": (0, 0.05), "noise": (0, 0), "fade": (0, 0.2)}
"""The least and the greatest share of a film of 5 frames that is copied."""


def upscale_linked(upscale, frames, workers=1):
    """Upscale frames as a pipeline does; return them, and which share of each was copied."""

    def one(item):
        frame, link = item
        with link:
            return upscale(frame, link), link.copied_share

    stage = ParallelStage(one, linked(frames, lambda frame: True), workers)
    try:
        return tuple(zip(*stage, strict=True))
    finally:
        stage.close()


def assert_equal(frames, others):
    for number, (one, other) in enumerate(zip(frames, others, strict=True)):
        for index in range(len(one.planes)):
            np.testing.assert_array_equal(plane(one, index), plane(other, index), f"{number}, plane {index}")


def upscaler_of(spec, engine="auto", precision="int8", **options):
    sharpness, target = options.pop("sharpness", 0), options.pop("target", {"scale": spec.scale})
    family = ModelFamily([quantized_model(spec)], engine, precision, threads=2, sharpness=sharpness)
    return FrameUpscaler(family, TargetSize(**target), **options)


@pytest.mark.parametrize("seed", range(60))
def test_rectangles_cover_what_a_changed_pixel_reaches(seed):
    rng = np.random.default_rng(seed)
    (height, width), halo_px = rng.integers(1, 100, 2), int(rng.integers(0, 20))
    wide = rng.integers(0, 256, (2, height, width + 13)).astype(rng.choice([np.uint8, np.uint16]))
    before, after = wide[:, :, :width]
    after[...] = before
    for top, left, rows, columns in rng.integers(0, (height, width, 20, 20), (rng.integers(0, 7), 4)):
        after[top : top + rows, left : left + columns] += 1
    reached = np.zeros((height, width), bool)
    for y, x in np.argwhere(before != after):
        reached[max(0, y - halo_px) : y + halo_px + 1, max(0, x - halo_px) : x + halo_px + 1] = True
    changed = unchanged.changed_rectangles(before, after, halo_px)
    times = np.zeros((height, width), int)
    for rectangle in changed:
        times[rectangle] += 1
    assert times.max() <= 1
    assert (times[reached] == 1).all()
    assert (changed == []) == (not reached.any())
    for rectangle in unchanged.other_rectangles(changed, (height, width)):
        times[rectangle] += 1
    assert (times == 1).all()


def test_a_small_change_makes_a_small_rectangle():
    before = picture(360, 640)
    after = before.copy()
    after[100, 300] ^= 1
    [(rows, columns)] = unchanged.changed_rectangles(before, after, 8)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (24, 24)
    after[300, 20] ^= 1
    assert len(unchanged.changed_rectangles(before, after, 8)) == 2


@pytest.mark.parametrize("engine", ["auto", "numpy"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("height", "width"), [(90, 131), (64, 96)])
def test_frames_equal_those_without_copies(kind, height, width, engine):
    frames = frames_of(film(kind, height, width))
    upscale = upscaler_of(RESIDUAL, engine)
    linked_frames, shares = upscale_linked(upscale, frames)
    assert_equal(linked_frames, map(upscale, frames))
    least, most = KINDS[kind]
    assert least <= sum(shares) / len(shares) <= most


@pytest.mark.parametrize("format", ["yuv420p10le", "yuv444p12le", "gray16le", "nv12", "rgb24"])
@pytest.mark.parametrize("kind", ["object", "slides", "noise"])
def test_other_formats(kind, format):
    planes = film(kind, 66, 98)
    frames = frames_of(planes, "gray" if format == "rgb24" else format)
    if format == "rgb24":
        frames = [frame.reformat(format=format) for frame in frames]
    upscale = upscaler_of(PLAIN)
    linked_frames, shares = upscale_linked(upscale, frames)
    assert_equal(linked_frames, map(upscale, frames))
    assert (sum(shares) > 0) == (kind != "noise")


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_several_frames_in_work(workers):
    planes = [each for kind in KINDS for each in film(kind, 70, 90, 4)]
    frames = frames_of(planes)
    upscale = upscaler_of(RESIDUAL)
    linked_frames, shares = upscale_linked(upscale, frames, workers)
    assert_equal(linked_frames, map(upscale, frames))
    assert shares == upscale_linked(upscale, frames)[1]


def test_a_frame_waits_for_the_one_before():
    frames = frames_of(film("object", 64, 96, 2))
    upscale = upscaler_of(PLAIN)
    first, second = (link for _, link in linked(frames, lambda frame: True))
    results = []
    later = threading.Thread(target=lambda: results.append(upscale(frames[1], second)))
    later.start()
    later.join(0.1)
    assert later.is_alive()
    with first:
        upscale(frames[0], first)
    later.join()
    assert second.copied_share > 0
    assert_equal(results, [upscale(frames[1])])


def test_after_a_frame_that_failed_all_is_computed():
    frames = frames_of(film("object", 64, 96, 3))
    upscale = upscaler_of(PLAIN)
    links = [link for _, link in linked(frames, lambda frame: True)]
    with pytest.raises(ZeroDivisionError), links[0]:
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), links[1]:
        links[1].changed(plane(frames[1], 0), (8, 8), 2)
        raise ZeroDivisionError  # after the comparison: the third frame knows what changed, but has no result
    with links[2]:
        assert_equal([upscale(frames[2], links[2])], [upscale(frames[2])])
    assert links[2].copied_share == 0


def test_frames_of_another_size_or_depth():
    planes = film("static", 64, 96, 2), film("static", 96, 64, 2)
    frames = [*frames_of(planes[0]), *frames_of(planes[1]), *frames_of(planes[1], "yuv420p10le")]
    frames += frames_of(planes[1], "yuv420p12le")
    upscale = upscaler_of(PLAIN)
    linked_frames, shares = upscale_linked(upscale, frames)
    assert_equal(linked_frames, map(upscale, frames))
    assert shares == (0, 1) * 4


def test_the_same_numbers_at_another_depth_are_another_picture():
    """A result of 12 bits is not that of 10 bits, though the integers of both sources are equal."""
    frames = [frames_of(film("static", 64, 96, 1), format)[0] for format in ("gray10le", "gray12le")]
    plane(frames[1], 0)[...] = plane(frames[0], 0)
    upscale = upscaler_of(PLAIN, format="gray12le")
    linked_frames, shares = upscale_linked(upscale, frames)
    assert_equal(linked_frames, map(upscale, frames))
    assert shares == (0, 0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"target": {"scale": 1.5}}, (0, 1, 0, 1)),
        ({"sharpness": 0.5}, (0, 1, 0, 1)),
        ({"grain": 1.0}, (0, 0, 0, 0)),
        ({"precision": "fp32"}, (0, 1, 0, 1)),
        ({"target": {"scale": 6}}, (0, 1, 0, 1)),
    ],
)
def test_without_one_exact_network_only_whole_frames_are_copied(options, expected):
    still, moved = film("static", 64, 96, 2), film("object", 64, 96, 2)[1:]
    frames = frames_of([*still, *moved, *moved])
    upscale = upscaler_of(PLAIN, **options)
    linked_frames, shares = upscale_linked(upscale, frames)
    assert_equal(linked_frames, map(upscale, frames))
    assert shares == expected


def test_an_odd_frame_gets_its_additional_pixels():
    frames = frames_of(film("object", 65, 97))
    upscale = upscaler_of(PLAIN, geometry=PixelGeometry(even=True))
    linked_frames, shares = upscale_linked(upscale, frames)
    assert (linked_frames[0].width, linked_frames[0].height) == (292, 196)
    assert_equal(linked_frames, map(upscale, frames))
    assert sum(shares) > 0


def test_links_do_not_keep_the_frames_before():
    upscale = upscaler_of(PLAIN)
    planes = film("object", 64, 96)
    references = []
    for frame, link in linked((frames_of([each])[0] for each in planes), lambda frame: True):
        with link:
            large = upscale(frame, link)
        references += [weakref.ref(link)]
        del large, frame
    gc.collect()
    assert [reference() for reference in references] == [None] * 4 + [link]


def test_the_user_may_change_frames_of_the_iterator():
    """`Upscaler.frames` gives frames away, and takes frames that the caller may use again."""
    model = quantized_model(PLAIN)
    upscaler = subpixel.Upscaler(model, precision="int8", threads=2)
    expected = list(map(upscaler_of(PLAIN), frames_of(film("object", 64, 96))))
    results = upscaler.frames(frames_of(film("object", 64, 96)))
    for result, right in zip(results, expected, strict=True):
        assert_equal([result], [right])
        plane(result, 0)[...] = 7


def test_the_source_of_the_iterator_may_use_one_frame_again():
    model = quantized_model(PLAIN)
    upscaler = subpixel.Upscaler(model, precision="int8", threads=1)
    frames = frames_of(film("object", 64, 96))
    expected = list(map(upscaler_of(PLAIN), frames))
    upscale, link = FrameUpscaler(upscaler.family, TargetSize(scale=3)), None
    reused = frames_of(film("static", 64, 96, 1))[0]
    for frame, right in zip(frames, expected, strict=True):
        plane(reused, 0)[...] = plane(frame, 0)
        link = FrameLink(link, private=True)
        with link:
            np.testing.assert_array_equal(plane(upscale(reused, link), 0), plane(right, 0))


def test_a_job_copies_over_segments_and_says_so(tmp_path, monkeypatch):
    """The frames are those of a job that copies nothing."""
    monkeypatch.setattr(encode, "SEGMENT_FRAMES", 10)
    quantized_model(PLAIN).save(tmp_path / "model.safetensors")
    planes = [each for kind in KINDS for each in film(kind, 64, 96, 4)]
    source = write(tmp_path / "in.mkv", frames_of(planes), codec="ffv1")
    options = {"model": tmp_path / "model.safetensors", "precision": "int8", "codec": "ffv1"}
    with_copies = subpixel.upscale_video(source, tmp_path / "out.mkv", **options)
    assert 0.2 < with_copies.copied_share < 0.9
    whole = [(slice(0, 64), slice(0, 96))]
    monkeypatch.setattr(links, "changed_rectangles", lambda before, after, halo_px: whole)
    without = subpixel.upscale_video(source, tmp_path / "whole.mkv", **options)
    assert without.copied_share == 0
    for one, other in zip(decoded(tmp_path / "out.mkv"), decoded(tmp_path / "whole.mkv"), strict=True):
        np.testing.assert_array_equal(luma(one), luma(other))


def test_the_command_prints_the_share(tmp_path):
    quantized_model(PLAIN).save(tmp_path / "model.safetensors")
    source = write(tmp_path / "in.mkv", frames_of(film("static", 64, 96, 4)), codec="ffv1")
    arguments = [
        "upscale",
        str(source),
        "-o",
        str(tmp_path / "out.mkv"),
        "-m",
        str(tmp_path / "model.safetensors"),
    ]
    result = CliRunner().invoke(app, [*arguments, "--precision", "int8", "-v", "--json"])
    assert "75% of the luma copied from the frame before" in result.stderr
    assert json.loads(result.stdout)["copied_share"] == 0.75
