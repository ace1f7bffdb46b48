"""Segments that are decoded and encoded by themselves, in any order, give the output of one run."""

import itertools
import random
from dataclasses import asdict
from fractions import Fraction

import pytest

from interlaced_files import interlaced, marked, render, write_lossless
from subpixel.video.distributed import encode_segments, join_segments, plan_segments
from subpixel.video.media import window
from subpixel.video.media.source import Source
from subpixel.video.pipeline import decode
from video_files import make_frames, times, write

RANDOM = random.Random(30)
STEP = Fraction(1, 25)
H264 = {"preset": "medium", "g": "30", "bf": "3", "b_strategy": "0"}
OF_ONE_RUN = (
    "seconds",
    "frames_per_second",
    "stages",
    "bottleneck",
    "resumed_frames",
    "copied_share",
    "output",
)


@pytest.fixture
def assert_same(upscale, upscaler, tmp_path):
    """Assert that segments in random order give the bytes and the result of one run; return the result."""

    def compare(source, **options):
        whole = upscale(source, tmp_path / "whole.mkv", **options)
        output, options = tmp_path / "out.mkv", {"upscaler": upscaler, **options}
        plan = plan_segments(source, output, **options)
        numbers = list(range(plan.expected_count))
        RANDOM.shuffle(numbers)
        while numbers:
            chosen = [numbers.pop() for _ in range(min(len(numbers), RANDOM.choice([1, 1, 2, 3])))]
            encode_segments(source, output, chosen, **options)
        result = join_segments(source, output, **options)
        assert output.read_bytes() == (tmp_path / "whole.mkv").read_bytes()
        ours, theirs = (
            {k: v for k, v in asdict(each).items() if k not in OF_ONE_RUN} for each in (result, whole)
        )
        assert ours == theirs
        return result

    return compare


@pytest.fixture
def from_start(monkeypatch):
    """How often a source is decoded from its start, beyond its first frame."""
    counted = []
    events = Source.events

    def count(self, packets=None):
        counted.append(self)
        return events(self, packets)

    monkeypatch.setattr(Source, "events", count)
    return counted


@pytest.mark.parametrize("extension", ["mkv", "mp4", "ts"])
def test_segments_in_random_order(assert_same, from_start, tmp_path, extension):
    options = H264 | {"x264-params": "open-gop=1"}
    source = write(tmp_path / f"in.{extension}", make_frames(75), options=options, sound="aac")
    assert assert_same(source).frames == 75
    assert len(from_start) == 1  # of the run with all segments


def mixed(count):
    """Rows of interlaced frames between rows of progressive ones."""
    frames = render(2 * count)
    progressive, woven = marked(frames[:count], "prog"), marked(interlaced(frames))
    rows = itertools.chain.from_iterable([number % 2] * length for number, length in enumerate(ROWS))
    return [(woven if is_woven else progressive)[n] for n, is_woven in zip(range(count), rows, strict=False)]


ROWS = [3, 4, 2, 1, 1, 9, 1, 14, 5, 5, 20, 20]


@pytest.mark.parametrize(
    "options",
    [
        {"deinterlace": "auto"},
        {"deinterlace": "frames"},
        {"deinterlace": "fields"},
        {"deinterlace": "fields", "start": Fraction("0.5"), "end": Fraction("2.1")},
        {"deinterlace": "auto", "field_order": "bottom", "start": Fraction("0.3")},
    ],
)
@pytest.mark.parametrize("starts_interlaced", [True, False])
def test_deinterlaced_frames_depend_on_their_neighbors_only(
    assert_same, tmp_path, options, starts_interlaced
):
    frames = mixed(66)[3 if starts_interlaced else 0 :]
    assert frames[0].interlaced_frame == starts_interlaced
    assert_same(write_lossless(tmp_path / "in.mkv", frames), codec="ffv1", **options)


def test_deinterlaced_frames_around_a_change_of_size(assert_same, tmp_path):
    content = b""
    options = {"codec": "mpeg2video", "options": {"g": "12", "flags": "+ildct+ilme"}, "time_base": STEP}
    for numbers, width, height in ((range(37), 96, 64), (range(37, 75), 64, 48)):
        frames = marked(interlaced(render(2 * len(numbers), width, height)))
        content += write(tmp_path / "part.ts", frames, times=numbers, **options).read_bytes()
    source = tmp_path / "in.ts"
    source.write_bytes(content)
    result = assert_same(source, codec="ffv1")
    assert result.frames == 74  # and one that FFmpeg loses between the parts
    assert any("38 frames had another size" in warning for warning in result.warnings)


@pytest.mark.parametrize("start", [0, Fraction("0.52")])
def test_a_variable_frame_rate_and_a_time_range(assert_same, tmp_path, start):
    steps = [RANDOM.choice([1, 1, 2, 5]) for _ in range(70)]
    ticks = [512 * sum(steps[:number]) for number in range(70)]
    source = write(tmp_path / "in.mkv", make_frames(70), options=H264, times=ticks)
    assert_same(source, start=start, end=Fraction(512 * sum(steps[:60]), 12800))


def test_inverse_telecine_needs_all_frames(assert_same, from_start, tmp_path):
    source = write_lossless(tmp_path / "in.mkv", render(60), rate=Fraction(30))
    result = assert_same(source, inverse_telecine=True)
    assert result.frames == 48
    assert len(from_start) > 1


def damage(path, number):
    """Damage the packet of a frame in MP4; return the file."""
    import av

    with av.open(str(path)) as file:
        packet = list(file.demux(video=0))[number]
        first, size = packet.pos, packet.size
    content = bytearray(path.read_bytes())
    content[first : first + size] = b"\xff" * size
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("number", [0, 4, 34, 52])
def test_a_damaged_frame(assert_same, tmp_path, number):
    """Frames and damage are counted as in one decode, though some segments were decoded by themselves."""
    source = damage(write(tmp_path / "in.mp4", make_frames(60), options=H264), number)
    result = assert_same(source)
    assert result.damaged_frames or result.lost_frames


def test_a_segment_without_any_frame(upscale, upscaler, tmp_path):
    """Its frames are all lost; the others stay where they are."""
    source = write(tmp_path / "in.mp4", make_frames(60), options={"g": "10", "bf": "0"})
    for number in range(20, 30):
        damage(source, number)
    result = upscale(source, tmp_path / "whole.mkv")
    assert result.frames == 50 and result.lost_frames
    for numbers in ([3, 0], [2], [1, 4, 5]):
        encode_segments(source, tmp_path / "out.mkv", numbers, upscaler=upscaler)
    assert join_segments(source, tmp_path / "out.mkv", upscaler=upscaler).frames == 50
    assert (tmp_path / "out.mkv").read_bytes() == (tmp_path / "whole.mkv").read_bytes()
    assert len(times(tmp_path / "out.mkv")) == 50


def test_a_truncated_file(assert_same, tmp_path):
    source = write(tmp_path / "in.mkv", make_frames(75), options=H264)
    content = source.read_bytes()
    source.write_bytes(content[: len(content) * 3 // 4])
    assert assert_same(source).missing_frames


def test_a_resumed_run_decodes_what_is_missing(upscale, upscaler, from_start, monkeypatch, tmp_path):
    source = write(tmp_path / "in.mkv", make_frames(75), options=H264 | {"g": "10"})
    upscale(source, tmp_path / "whole.mkv")
    encode_segments(source, tmp_path / "out.mkv", [0, 1, 2, 4, 5, 6], upscaler=upscaler)
    from_start.clear()
    passed = []

    def read(*arguments):
        for frame in window.read_window(*arguments):
            passed.append(frame.pts)
            yield frame

    monkeypatch.setattr(decode, "read_window", read)
    result = upscale(source, tmp_path / "out.mkv")
    assert (result.resumed_frames, result.frames, from_start) == (60, 75, [])
    assert len(passed) <= 15 + 4  # and context for frames that might be interlaced
    assert (tmp_path / "out.mkv").read_bytes() == (tmp_path / "whole.mkv").read_bytes()


def test_a_stream_without_times_resumes_with_a_warning(upscale, upscaler, tmp_path):
    source = write(tmp_path / "in.h264", make_frames(45), options=H264)
    upscale(source, tmp_path / "whole.mkv")
    encode_segments(source, tmp_path / "out.mkv", [1], upscaler=upscaler)
    warnings = upscale(source, tmp_path / "out.mkv").warnings
    assert any(
        each.startswith("was decoded from its start")
        and each.endswith("its frames have no times in the file")
        for each in warnings
    )
    assert (tmp_path / "out.mkv").read_bytes() == (tmp_path / "whole.mkv").read_bytes()


def test_a_stream_with_one_key_frame_resumes_with_a_warning(upscale, upscaler, tmp_path):
    source = write(tmp_path / "in.mkv", make_frames(45), options={"x264-params": "intra-refresh=1"})
    upscale(source, tmp_path / "whole.mkv")
    encode_segments(source, tmp_path / "out.mkv", [0, 1, 2], upscaler=upscaler)
    warnings = upscale(source, tmp_path / "out.mkv").warnings
    assert any(each.endswith("key frame from which its frames are known to be right") for each in warnings)
    assert (tmp_path / "out.mkv").read_bytes() == (tmp_path / "whole.mkv").read_bytes()
