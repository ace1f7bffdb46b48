"""Codecs, containers and HDR metadata of videos."""

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from subpixel.errors import EncoderError, OutputError
from subpixel.video.media import codecs
from subpixel.video.media.codecs import (
    CODECS,
    Encoder,
    Encoding,
    available_codecs,
    find_codec,
    nearest_pixel_format,
    options_for,
)
from subpixel.video.media.containers import container_named, container_of
from subpixel.video.media.hdr import Hdr, MasteringDisplay, hdr_options, prepend_parameters
from subpixel.video.pipeline.encode import decoding_times, encode
from video_files import make_frames, write

# Codecs


def test_software_codecs_are_available():
    assert {"libx264", "libx265", "libsvtav1", "ffv1", "rawvideo"} <= set(available_codecs())


def test_an_unknown_codec():
    with pytest.raises(ValueError, match=r"unknown codec 'x264'; known here: auto, libx264, libx265"):
        find_codec("x264")


def test_default_options():
    assert options_for(find_codec("libx265"), Encoding()) == {
        "crf": "20",
        "preset": "superfast",
        "x265-params": "log-level=error",
        "a53cc": "1",
    }


@pytest.mark.parametrize(
    ("simd", "options"),
    [
        ({"found": ["X86_V3", "X86_V4"]}, {"x264-params": "asm=avx2:tff=1"}),
        ({"baseline": ["AVX512F"]}, {"x264-params": "asm=avx2:tff=1"}),
        ({"found": ["X86_V3"]}, {"x264-params": "tff=1"}),
        ({}, {"x264-params": "tff=1"}),
    ],
)
def test_x264_does_not_use_avx512(monkeypatch, simd, options):
    monkeypatch.setattr(np, "show_config", lambda mode: {"SIMD Extensions": simd})
    assert codecs._machine_options("libx264", {"x264-params": "tff=1"}) == options
    assert codecs._machine_options("libx265", {"x264-params": "tff=1"}) == {"x264-params": "tff=1"}


@pytest.mark.skipif(sys.platform != "linux", reason="FFmpeg's instructions are held by Linux's means")
def test_packets_depend_on_no_machine():
    """On one CPU and without newer instructions, encoders write the same packets."""
    script = Path(__file__).parent / "encoded_packets.py"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "SVT_LOG": "1"}
    free, held = (
        json.loads(
            subprocess.run(
                [sys.executable, script, *arguments], env=environment, stdout=subprocess.PIPE, check=True
            ).stdout
        )
        for arguments in ([], ["held"])
    )
    assert len(free) >= 5
    assert free == held


def test_encoders_that_depend_on_a_device_say_so():
    assert {codec.name for codec in CODECS if codec.differs} == {
        codec.name for codec in CODECS if codec.hardware
    }


def test_options_of_the_user():
    wanted = Encoding(crf=23.5, preset="slow", options={"tune": "film"})
    options = options_for(find_codec("libx264"), wanted)
    assert options.items() >= {"crf": "23.5", "preset": "slow", "tune": "film"}.items()


def test_parameter_lists_are_joined():
    wanted = Encoding(options={"x265-params": "aq-mode=3"})
    assert options_for(find_codec("libx265"), wanted)["x265-params"] == "log-level=error:aq-mode=3"


@pytest.mark.parametrize(
    ("codec", "encoding", "words"),
    [
        ("libx264", Encoding(crf=60), "crf of libx264 must be 0 to 51, not 60"),
        ("ffv1", Encoding(crf=10), "ffv1 has no crf"),
        (
            "libx264",
            Encoding(preset="quick"),
            "unknown preset 'quick' of libx264; known: ultrafast, .*placebo",
        ),
        ("libsvtav1", Encoding(preset="fast"), "known: 13, 12"),
        ("ffv1", Encoding(preset="fast"), "ffv1 has no presets"),
        ("libx264", Encoding(options={"tunes": "film"}), "libx264 has no option 'tunes'; it has .*tune"),
    ],
)
def test_unsupported_options(codec, encoding, words):
    with pytest.raises(ValueError, match=words):
        options_for(find_codec(codec), encoding)


@pytest.mark.parametrize(
    ("codec", "wanted", "found"),
    [
        ("libx264", "yuv420p10le", "yuv420p10le"),
        ("libx264", "yuv422p12le", "yuv422p10le"),
        ("libx265", "yuv422p12le", "yuv422p12le"),
        ("libsvtav1", "yuv444p", "yuv420p"),
        ("libsvtav1", "gray10le", "yuv420p10le"),
        ("libx264", "yuv440p", "yuv444p"),
        ("libx264", "yuv411p", "yuv422p"),
        ("prores_ks", "yuv420p", "yuv422p10le"),
        ("ffv1", "gray12le", "gray12le"),
        ("rawvideo", "yuv410p", "yuv410p"),
    ],
)
def test_nearest_pixel_format(codec, wanted, found):
    assert nearest_pixel_format(find_codec(codec), wanted) == found


def encoder(codec="libx264", **changes):
    metadata = {
        "codec": find_codec(codec),
        "width": 64,
        "height": 48,
        "format": nearest_pixel_format(find_codec(codec), "yuv420p"),
        "time_base": Fraction(1, 12800),
        "rate": Fraction(25),
        "aspect": Fraction(1),
        "color": (1, 1, 1, 1),
        "threads": 1,
        "options": options_for(find_codec(codec), Encoding()),
    }
    return Encoder(**metadata | changes)


@pytest.mark.parametrize("codec", [codec.name for codec in CODECS if not codec.hardware])
def test_every_software_codec_encodes(codec, capfd):
    context = encoder(codec).open()
    encoded = []
    for frame in make_frames(3, format=context.pix_fmt):
        encoded += context.encode(frame)
    encoded += context.encode(None)
    assert len(encoded) == 3
    assert "x265 [info]" not in capfd.readouterr().err


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="no sched_getscheduler here")
def test_no_encoder_takes_realtime_priority(tmp_path):
    """As root, SVT-AV1 takes it for itself and for its caller. Writing a test video must not, either."""
    write(tmp_path / "a.mkv", make_frames(2), codec="libsvtav1")
    context = encoder("libsvtav1").open()
    policies = [os.sched_getscheduler(int(task.name)) for task in Path("/proc/self/task").iterdir()]
    assert len(policies) > 5
    assert set(policies) == {os.SCHED_OTHER}
    del context


def test_an_encoder_that_does_not_start():
    with pytest.raises(EncoderError, match=r"libx264 does not start with .*crf=18.* for 63x48"):
        encoder(width=63).open()


# HDR


DISPLAY = MasteringDisplay(
    red=(Fraction(708, 1000), Fraction(292, 1000)),
    green=(Fraction(170, 1000), Fraction(797, 1000)),
    blue=(Fraction(131, 1000), Fraction(46, 1000)),
    white=(Fraction(3127, 10000), Fraction(3290, 10000)),
    luminance=(Fraction(5, 1000), Fraction(1000)),
)


def test_hdr_options():
    """In the syntax of x265's and SVT-AV1's documentation."""
    hdr = Hdr(DISPLAY, (1000, 400))
    expected = (
        "master-display=G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,50):max-cll=1000,400"
    )
    assert hdr_options(hdr, "libx265") == {"x265-params": expected}
    assert hdr_options(hdr, "libsvtav1") == {
        "svtav1-params": "mastering-display=G(0.17000,0.79700)B(0.13100,0.04600)R(0.70800,0.29200)"
        "WP(0.31270,0.32900)L(1000.00000,0.00500):content-light=1000,400"
    }
    assert hdr_options(Hdr(None, (1000, 400)), "libx264") == {"x264-params": "cll=1000,400"}
    assert hdr_options(hdr, "ffv1") == hdr_options(Hdr(), "libx265") == {}


def test_hdr_options_come_before_those_of_the_user():
    joined = prepend_parameters({"x265-params": "aq-mode=3"}, {"x265-params": "max-cll=1,1"})
    assert joined == {"x265-params": "max-cll=1,1:aq-mode=3"}


# Containers


def test_containers_by_name(tmp_path):
    assert container_of(tmp_path / "A.MKV") is container_named("mkv")
    with pytest.raises(OutputError, match=r"\.avi'; known: \.mp4"):
        container_of(tmp_path / "a.avi")
    with pytest.raises(ValueError, match="unknown container 'avi'; known: mp4, mkv, mov, webm, y4m"):
        container_named("avi")


# Times


def test_decoding_times_equal_those_of_one_encoder():
    context = encoder(options={"bf": "2", "preset": "medium", "b-pyramid": "none"}).open()
    packets = []
    for frame in make_frames(30):
        frame.pts *= 512
        frame.time_base = Fraction(1, 12800)
        packets += context.encode(frame)
    packets += context.encode(None)
    times = np.array([packet.pts for packet in packets])
    assert (np.diff(times) < 0).any(), "the test needs reordered frames"
    np.testing.assert_array_equal(decoding_times(times), [packet.dts for packet in packets])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_decoding_times_of_short_streams(count):
    """Those of libx265 are random for one and two frames: what was in its memory before."""
    for trial in range(20):
        memory = [np.random.default_rng(trial).bytes(200_000) for _ in range(10)]
        x265 = encoder("libx265")
        codec = x265.open()
        del memory
        frames = list(enumerate(make_frames(count, x265.width, x265.height, x265.format)))
        for packet in encode(frames, codec):
            assert packet.pts - 2000 <= packet.dts <= packet.pts
