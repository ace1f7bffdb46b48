"""`subpixel upscale` on interlaced videos as a process, and what its results keep."""

import subprocess
import sys
from fractions import Fraction

import pytest

from interlaced_files import combing, interlaced, marked, planes, psnr_db, render, write_lossless
from video_files import decoded, packets, times, write


@pytest.fixture
def run(model, tmp_path):
    def run(*arguments, stdin=b""):
        options = ["--model", model, "--engine", "numpy", "--threads", "1"]
        command = [sys.executable, "-m", "subpixel", "upscale", *map(str, arguments), *options]
        return subprocess.run(command, input=stdin, capture_output=True, check=False, cwd=tmp_path)

    return run


def yuv4mpeg2(frames, header):
    """A YUV4MPEG2 file, written by hand."""
    result = header + b"\n"
    for frame in frames:
        samples = zip(planes(frame), frame.planes, strict=True)
        result += b"FRAME\n" + b"".join(rows[:, : plane.width].tobytes() for rows, plane in samples)
    return result


@pytest.mark.parametrize(("letter", "order"), [("t", "top"), ("b", "bottom")])
def test_from_pipe_to_pipe(run, tmp_path, letter, order):
    """YUV4MPEG2 states the field order of its input; the result is progressive."""
    frames = render(24)
    source = yuv4mpeg2(interlaced(frames, order), f"YUV4MPEG2 W96 H64 F25:1 I{letter} A16:15 C420".encode())
    result = run("-", "-o", "-", "--deinterlace", "fields", stdin=source)
    assert result.returncode == 0
    header = result.stdout.split(b"\n")[0].split()
    assert {b"F50:1", b"Ip", b"A16:15"} <= set(header)
    (tmp_path / "out.y4m").write_bytes(result.stdout)

    truth = run("-", "-o", "-", stdin=yuv4mpeg2(frames, b"YUV4MPEG2 W96 H64 F50:1 Ip A16:15 C420"))
    assert truth.stderr == b""
    (tmp_path / "truth.y4m").write_bytes(truth.stdout)
    found = decoded(tmp_path / "out.y4m")
    assert len(found) == 24
    assert psnr_db(found[2:-2], decoded(tmp_path / "truth.y4m")[2:-2]) > 45


def test_auto_tells_a_user_what_it_did(run, tmp_path):
    write_lossless(tmp_path / "in.mkv", marked(interlaced(render(8))))
    result = run("in.mkv", "-o", "out.mkv")
    assert result.returncode == 0
    assert (
        b"note: in.mkv: 4 of 4 frames are interlaced, and were deinterlaced; --deinterlace" in result.stderr
    )
    assert combing(decoded(tmp_path / "out.mkv")) < 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--deinterlace", "yes"], b"unknown deinterlace 'yes'; known: auto, off, frames, fields"),
        (["--field-order", "tff"], b"unknown field_order 'tff'; known: auto, top, bottom"),
        (["--deinterlace", "off", "--field-order", "top"], b"which is off; leave one of them out"),
        (["--deinterlace", "off", "--inverse-telecine"], b"leave out the option deinterlace"),
    ],
)
def test_wrong_usage(run, tmp_path, options, message):
    write_lossless(tmp_path / "in.mkv", marked(interlaced(render(4))))
    result = run("in.mkv", "-o", "out.mkv", *options)
    assert result.returncode == 2
    assert message in result.stderr
    assert not (tmp_path / "out.mkv").exists()


DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"


@pytest.mark.parametrize("mode", ["auto", "fields"])
def test_color_hdr_aspect_and_sound_are_kept(upscale, tmp_path, mode):
    source = write(
        tmp_path / "in.mp4",
        marked(interlaced(render(16, format="yuv420p10le"))),
        options={
            "flags": "+ildct+ilme",
            "x264-params": f"tff=1:mastering-display={DISPLAY}:cll=1000,400",
        },
        sound="aac",
        color_trc=16,
        color_primaries=9,
        colorspace=9,
        color_range=1,
        sample_aspect_ratio=Fraction(16, 11),
    )
    upscale(source, tmp_path / "out.mp4", deinterlace=mode)
    before, after = decoded(source), decoded(tmp_path / "out.mp4")
    rate = 2 if mode == "fields" else 1
    assert len(after) == 8 * rate
    for frame in after:
        assert frame.format.name == "yuv420p10le"
        assert (frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range) == (16, 9, 9, 1)
        for kind in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"):
            assert bytes(frame.side_data[kind]) == bytes(before[0].side_data[kind])
    assert packets(tmp_path / "out.mp4") == packets(source)
    assert times(tmp_path / "out.mp4") == [Fraction(number, 25 * rate) for number in range(8 * rate)]


@pytest.mark.parametrize("extension", ["avi", "ts", "mov"])
def test_containers_with_coarse_or_late_times(upscale, tmp_path, extension):
    """AVI counts frames, so the time of a second field is between two of its times."""
    source = write(
        tmp_path / f"in.{extension}",
        marked(interlaced(render(20))),
        codec="mpeg2video",
        options={"flags": "+ildct+ilme", "b": "4000000"},
        time_base=Fraction(1, 25),
        sound="mp2",
        times=range(100, 110) if extension == "ts" else None,
    )
    upscale(source, tmp_path / "out.mp4", deinterlace="fields", drop_unsupported=True)
    found = times(tmp_path / "out.mp4")
    assert [time - found[0] for time in found] == [Fraction(number, 50) for number in range(20)]
