"""Errors and warnings about videos: each error names its file, and each loss is reported."""

import bz2
import io
import json
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import subpixel
from interpolating import bicubic_model
from subpixel.cli import app
from subpixel.errors import DatasetError, EngineError, InputError, SubpixelError, UnsupportedVideo
from subpixel.evaluation.video import ClipSetup, evaluate_clip
from subpixel.upscaler import Upscaler
from subpixel.video.media.decode_errors import DecodeErrors
from subpixel.video.media.hdr import describe_unknown, display_matrix, frame_side_data
from subpixel.video.media.losses import losses_in_later_frames
from subpixel.video.media.pixel_formats import chroma_location, has_chroma_location
from subpixel.video.media.source import is_packet, open_source
from subpixel.video.pipeline.frames import FrameUpscaler
from video_files import decoded, make_frames, streams, write


@pytest.fixture
def upscale():
    upscaler = Upscaler(bicubic_model(2), "numpy", threads=1)

    def upscale(source, output, **options):
        return subpixel.upscale_video(source, output, upscaler=upscaler, **options)

    return upscale


# Side data that PyAV does not know


def photographs(path, count=3):
    """Write Motion JPEG whose EXIF states a rotation; PyAV does not know EXIF as side data."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a title"
    stored = io.BytesIO()
    samples = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    Image.fromarray(samples).save(stored, "JPEG", exif=exif)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mjpeg", 25, width=64, height=48, pix_fmt="yuvj420p")
        output.start_encoding()
        for number in range(count):
            packet = av.Packet(stored.getvalue())
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), True
            packet.pts = packet.dts = number
            output.mux(packet)
    return path


@pytest.mark.parametrize("extension", ["mkv", "avi", "mov"])
def test_unknown_side_data_is_dropped_and_reported(upscale, tmp_path, extension):
    source = photographs(tmp_path / f"in.{extension}")
    report = upscale(source, tmp_path / "out.mp4")
    assert report.frames == 3
    assert "dropped, because PyAV cannot copy it: EXIF" in report.warnings
    # The known side data is kept.
    assert decoded(tmp_path / "out.mp4")[0].rotation == decoded(source)[0].rotation == -90


def test_unknown_side_data_types_have_numbers(tmp_path):
    """The known types stay as they are."""
    frame = decoded(photographs(tmp_path / "in.mkv"))[0]
    kinds = {side.type.value for side in frame_side_data(frame)}
    assert 31 in kinds and display_matrix(frame) is not None
    from av.sidedata.sidedata import Type

    assert Type(999) is Type(999) and Type(999) not in list(Type)
    assert Type(6) is Type.DISPLAYMATRIX
    names = [Type(number).name for number in (6, 999, 29)]
    assert describe_unknown(names) == ["the view number of MV-HEVC", "FFmpeg's side data number 999"]
    assert losses_in_later_frames([names[2]], "libx264") == [
        "libx264 does not keep the view number of MV-HEVC of later frames"
    ]


# Errors name the file


def failing(monkeypatch, error, name="a.mkv"):
    """Make frames of width 64 fail in the frame upscaler, which does not know the file."""

    def fail(self, frame, *link, original=FrameUpscaler.__call__):
        if frame.width == 64:
            raise error
        return original(self, frame, *link)

    monkeypatch.setattr(FrameUpscaler, "__call__", fail)


UNNAMED = [
    UnsupportedVideo("frames of the pixel format xyz cannot be upscaled"),
    EngineError("the engine failed"),
    av.error.InvalidDataError(1094995529, "Invalid data found when processing input"),
    av.error.ExternalError(542398533, "Generic error in an external library"),
    ValueError("29 is not a valid Type"),
    OSError(5, "Input/output error"),
]


@pytest.mark.parametrize("error", UNNAMED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("piped", [False, True])
def test_an_error_during_the_work_names_its_video(upscale, monkeypatch, tmp_path, error, piped):
    source = write(tmp_path / "a.mkv", make_frames(3))
    failing(monkeypatch, error)
    output = tmp_path / "out.mkv"
    if piped:
        monkeypatch.setattr("subpixel.video.upscale.is_regular", lambda input: False)
    with pytest.raises(SubpixelError) as caught:
        upscale(source, output)
    assert str(caught.value).startswith((f"{source}: ", f"{output}: "))
    if isinstance(error, SubpixelError):
        assert type(caught.value) is type(error)


def test_a_bug_names_its_video_too(upscale, monkeypatch, tmp_path):
    source = write(tmp_path / "a.mkv", make_frames(3))
    failing(monkeypatch, AttributeError("'NoneType' object has no attribute 'name'"))
    with pytest.raises(AttributeError) as caught:
        upscale(source, tmp_path / "out.mkv")
    assert caught.value.__notes__ == [f"This error occurred while processing {source}."]


@pytest.mark.parametrize("error", [*UNNAMED, AttributeError("no attribute 'name'")], ids=repr)
def test_the_command_names_the_video_and_continues(model, monkeypatch, tmp_path, error):
    videos = tmp_path / "videos"
    videos.mkdir()
    write(videos / "a.mkv", make_frames(3))
    write(videos / "b.mkv", make_frames(3, 48, 32))
    failing(monkeypatch, error)
    arguments = [
        "upscale",
        str(videos),
        "-o",
        str(tmp_path / "out"),
        "-m",
        model,
        "--engine",
        "numpy",
        "--json",
    ]
    result = CliRunner().invoke(app, arguments)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith((f"error: {videos / 'a.mkv'}: ", f"error: {tmp_path / 'out' / 'a.mkv'}: "))
    assert "Traceback" not in result.stderr
    assert result.exit_code == 1
    first, second = map(json.loads, result.stdout.splitlines())
    assert first == {"input": str(videos / "a.mkv"), "error": line.removeprefix("error: ")}
    assert second["frames"] == 3


def test_a_bug_shows_its_traceback_with_verbose(model, monkeypatch, tmp_path):
    source = write(tmp_path / "a.mkv", make_frames(3))
    failing(monkeypatch, AttributeError("no attribute 'name'"))
    arguments = ["upscale", str(source), "-o", str(tmp_path / "out.mkv"), "-m", model, "--engine", "numpy"]
    result = CliRunner().invoke(app, [*arguments, "-v"])
    assert result.exit_code == 1
    assert f"error: {source}: internal error (AttributeError: no" in result.stderr
    assert "Traceback" in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--crf", "70"], "crf of libsvtav1 must be 1 to 63, not 70"),
        (["--preset", "quick"], "unknown preset 'quick' of libsvtav1"),
        (["--codec", "prores_ks"], "WebM cannot be written with prores_ks; choose"),
    ],
)
def test_options_that_do_not_fit_a_video_name_it(model, tmp_path, options, words):
    source = write(tmp_path / "a.mkv", make_frames(3))
    arguments = ["upscale", str(source), "-o", str(tmp_path / "out.webm"), "-m", model, "--engine", "numpy"]
    result = CliRunner().invoke(app, [*arguments, *options])
    assert result.exit_code == 2
    assert f"error: {source}: {words}" in result.stderr


def test_an_error_in_evaluation_names_the_clip(tmp_path):
    clip = write(tmp_path / "a.mkv", make_frames(3))

    def fail(lr):
        raise EngineError("the engine failed")

    with pytest.raises(EngineError, match=f"^{clip}: the engine failed"):
        evaluate_clip(clip, fail, ClipSetup(2))
    with pytest.raises(DatasetError, match=f"^{clip}: "):
        evaluate_clip(clip, fail, ClipSetup(30))


def test_an_error_that_names_its_file_is_unchanged(upscale, tmp_path):
    (tmp_path / "a.mkv").write_bytes(b"not a video" * 99)
    with pytest.raises(InputError, match=r"^[^:]*a\.mkv: cannot be read \(Invalid data[^:]*\)$"):
        upscale(tmp_path / "a.mkv", tmp_path / "out.mkv")


# Streams that would be unreadable in a copy


def element(id, *content):
    """Return an EBML element: identifier (hexadecimal), length in eight bytes, content."""
    data = b"".join(content)
    return bytes.fromhex(id) + struct.pack(">Q", len(data) | 1 << 56) + data


def number(value):
    return value.to_bytes(8, "big")


def write_bzlib(path, streams):
    """Write Motion JPEG and MP2 to Matroska, with the packets of ``streams`` compressed by bzlib."""
    plain = write(path.parent / "plain.mkv", make_frames(5, format="yuvj420p"), codec="mjpeg", sound="mp2")
    with av.open(str(plain)) as file:
        packets = [(p.pts * p.time_base, p.stream_index, bytes(p)) for p in file.demux() if p.size]
    compression = element("6D80", element("6240", element("5034", element("4254", number(1)))))
    described = [
        (number(1), b"V_MJPEG", element("E0", element("B0", number(64)), element("BA", number(48)))),
        (number(2), b"A_MPEG/L2", element("E1", element("B5", struct.pack(">d", 44100.0)))),
    ]
    tracks = [
        element(
            "AE",
            element("D7", number(index + 1)),
            element("73C5", number(index + 1)),
            element("83", track_type),
            element("86", codec),
            settings,
            compression if index in streams else b"",
        )
        for index, (track_type, codec, settings) in enumerate(described)
    ]
    blocks = [
        element(
            "A3",
            bytes([0x81 + index]) + struct.pack(">h", round(time * 1000)) + b"\x80",
            bz2.compress(data) if index in streams else data,
        )
        for time, index, data in sorted(packets)
    ]
    path.write_bytes(
        element("1A45DFA3", element("4282", b"matroska"), element("4287", number(4)))
        + element(
            "18538067",
            element("1549A966", element("2AD7B1", number(1_000_000))),
            element("1654AE6B", *tracks),
            element("1F43B675", element("E7", number(0)), *blocks),
        )
    )
    return path


def test_sound_compressed_by_bzlib_is_refused_or_dropped(upscale, tmp_path):
    source = write_bzlib(tmp_path / "in.mkv", {1})
    words = rf"^{source}: stream 1 \(audio, mp2\) is compressed by bzlib.*mkvmerge.*--drop-unsupported"
    with pytest.raises(UnsupportedVideo, match=words):
        upscale(source, tmp_path / "out.mkv")
    report = upscale(source, tmp_path / "out.mkv", drop_unsupported=True)
    assert any(n.startswith("dropped: stream 1 (audio, mp2) is compressed") for n in report.warnings)
    assert len(decoded(tmp_path / "out.mkv")) == 5
    plain = write_bzlib(tmp_path / "plain-too.mkv", set())
    assert "dropped" not in " ".join(upscale(plain, tmp_path / "kept.mkv").warnings)
    assert len(streams(tmp_path / "kept.mkv")) == 2


def test_video_compressed_by_bzlib_is_refused(upscale, tmp_path):
    source = write_bzlib(tmp_path / "in.mkv", {0})
    with pytest.raises(UnsupportedVideo, match=f"^{source}: its video stream is compressed by bzlib"):
        upscale(source, tmp_path / "out.mkv")


def test_encrypted_video_is_refused(upscale, tmp_path):
    """Encrypted by Common Encryption, as MP4 files from online shops are."""
    options = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0" * 32, "encryption_kid": "1" * 32}
    source = write(tmp_path / "in.mp4", make_frames(5), sound="aac", container_options=options)
    with pytest.raises(UnsupportedVideo, match=f"^{source}: its video stream is encrypted; decrypt it first"):
        upscale(source, tmp_path / "out.mkv")


# Damage is counted in frames, not in packets


def settled(unusable, frames, gaps, *, numbers=(0, 99), damaged=0):
    decode_errors = DecodeErrors(frames=frames, damaged=damaged)
    decode_errors.count_undecoded(unusable, numbers, gaps)
    return decode_errors.damaged, decode_errors.lost


def test_damaged_packets_are_counted_in_frames():
    assert settled({3, 4}, 98, 2) == (0, 2)
    assert settled({3, 4}, 50, 0) == (2, 0), "of fields, a frame has two packets"
    assert settled(set(range(1, 331, 2)), 163, 0, numbers=(0, 330), damaged=163) == (163, 0)
    assert settled({3, 4}, 98, None) == (0, 2), "without times nobody knows, and packets are taken for frames"
    assert settled({0, 1, 101}, 97, 0, numbers=(2, 100)) == (0, 3), "before the first and behind the last"
    assert settled(set(), 100, 7) == (0, 0), "slides have gaps"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("extension", ["mkv", "ts", "avi", "h264", "mp4", "mpg"])
def test_the_count_of_damaged_frames_is_plausible(tmp_path, extension, seed):
    codec = {"ts": "mpeg2video", "avi": "mpeg4", "mpg": "mpeg2video"}.get(extension, "libx264")
    options = {"movflags": "faststart"} if extension == "mp4" else {}
    source = write(
        tmp_path / f"in.{extension}",
        make_frames(40, 160, 96),
        codec=codec,
        time_base=Fraction(1, 25),
        options={"g": "10"},
        container_options=options,
    )
    content = bytearray(source.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(len(content) // 10, len(content), 300):
        content[place] = rng.integers(256)
    source.write_bytes(content)
    try:
        opened = open_source(source)
    except InputError:
        return
    frames = sum(not is_packet(event) for event in opened.events())
    opened.close()
    decode_errors = opened.decode_errors
    assert decode_errors.frames == frames
    assert 0 <= decode_errors.damaged <= frames
    assert 0 < decode_errors.damaged + decode_errors.lost <= 45
    assert 0 < decode_errors.damaged_share <= 1
    for warning in decode_errors.warnings:
        assert (
            "damaged" not in warning or f"{decode_errors.damaged} of {frames} frames were damaged;" in warning
        )


# Chroma siting


@pytest.mark.parametrize(
    ("codec", "siting"),
    [
        ("libvpx-vp9", None),
        ("libvpx-vp9", "center"),
        ("libvpx", None),
        ("libsvtav1", None),
        ("libsvtav1", "left"),
        ("ffv1", None),
        ("ffv1", "center"),
        ("libx264", "center"),
        ("mjpeg", None),
    ],
)
def test_chroma_siting_is_kept(upscale, tmp_path, codec, siting):
    """A stated siting is kept. Without one, H.264 has its own default, left."""
    options = {"chroma_sample_location": siting} if siting else {}
    format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    source = write(tmp_path / "in.mkv", make_frames(2, format=format), codec=codec, options=options)
    upscale(source, tmp_path / "out.mkv")
    expected = "center" if codec == "mjpeg" else siting or "left"
    assert chroma_location(decoded(tmp_path / "out.mkv")[0]) == expected
    upscale(source, tmp_path / "lossless.mkv", codec="ffv1")
    with av.open(str(tmp_path / "lossless.mkv")) as file:
        assert has_chroma_location(file.streams.video[0]) == (siting is not None or codec == "mjpeg")


@pytest.mark.parametrize(("tag", "siting"), [("C420jpeg", "center"), ("C420mpeg2", "left")])
def test_chroma_siting_of_yuv4mpeg2(upscale, tmp_path, tag, siting):
    source = tmp_path / "in.y4m"
    source.write_bytes(f"YUV4MPEG2 W64 H48 F25:1 {tag}\nFRAME\n".encode() + bytes(64 * 48 * 3 // 2))
    upscale(source, tmp_path / "out.mkv")
    assert chroma_location(decoded(tmp_path / "out.mkv")[0]) == siting
