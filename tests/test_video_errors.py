"""What is told of a film: every error names its file, and nothing that it carries is lost without a word."""

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
from subpixel.evaluation.protocol import Degradation
from subpixel.evaluation.video import evaluate_clip
from subpixel.upscaler import Upscaler
from subpixel.video.media.decode_errors import DecodeErrors
from subpixel.video.media.hdr import attached, display_matrix, unknown
from subpixel.video.media.losses import losses_later
from subpixel.video.media.source import is_packet, open_source
from subpixel.video.pipeline.frames import FrameUpscaler, chroma_location, says_where_chroma_lies
from video_files import decoded, pictures, streams, write


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "bicubic-x2.safetensors"
    bicubic_model(2).save(path)
    return str(path)


@pytest.fixture
def upscale():
    upscaler = Upscaler(bicubic_model(2), "numpy", threads=1)

    def upscale(source, output, **options):
        return subpixel.upscale_video(source, output, upscaler=upscaler, **options)

    return upscale


# Side data that PyAV has no name for


def photographs(path, count=3):
    """Motion JPEG of a camera that lay on its side: EXIF says so, which PyAV knows not as side data."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a title"
    stored = io.BytesIO()
    picture = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    Image.fromarray(picture).save(stored, "JPEG", exif=exif)
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
def test_side_data_without_a_name_is_left_out_and_told(upscale, tmp_path, extension):
    source = photographs(tmp_path / f"in.{extension}")
    report = upscale(source, tmp_path / "out.mp4")
    assert report.frames == 3
    assert "left out, as it cannot be passed on: EXIF" in report.warnings
    # All else that the frame carries is there.
    assert decoded(tmp_path / "out.mp4")[0].rotation == decoded(source)[0].rotation == -90


def test_every_number_of_side_data_is_taken(tmp_path):
    """And stays what it is, also for who asks for one that has a name."""
    frame = decoded(photographs(tmp_path / "in.mkv"))[0]
    kinds = {side.type.value for side in attached(frame)}
    assert 31 in kinds and display_matrix(frame) is not None
    from av.sidedata.sidedata import Type

    assert Type(999) is Type(999) and Type(999) not in list(Type)
    assert Type(6) is Type.DISPLAYMATRIX
    names = [Type(number).name for number in (6, 999, 29)]
    assert unknown(names) == ["which view it is (MV-HEVC)", "FFmpeg's side data number 999"]
    assert losses_later([names[2]], "libx264") == [
        "libx264 does not keep which view it is (MV-HEVC), which later frames carry"
    ]


# Errors name the file


def failing(monkeypatch, error, name="a.mkv"):
    """Have films fail in the middle of their work, where nobody knows of files; but for one, by its size."""

    def fail(self, frame, enlarge=FrameUpscaler.__call__):
        if frame.width == 64:
            raise error
        return enlarge(self, frame)

    monkeypatch.setattr(FrameUpscaler, "__call__", fail)


UNNAMED = [
    UnsupportedVideo("frames of the pixel format xyz cannot be enlarged"),
    EngineError("the engine failed"),
    av.error.InvalidDataError(1094995529, "Invalid data found when processing input"),
    av.error.ExternalError(542398533, "Generic error in an external library"),
    ValueError("29 is not a valid Type"),
    OSError(5, "Input/output error"),
]


@pytest.mark.parametrize("error", UNNAMED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("piped", [False, True])
def test_an_error_in_the_middle_names_its_film(upscale, monkeypatch, tmp_path, error, piped):
    source = write(tmp_path / "a.mkv", pictures(3))
    failing(monkeypatch, error)
    output = tmp_path / "out.mkv"
    if piped:
        monkeypatch.setattr("subpixel.video.upscale.is_regular", lambda input: False)
    with pytest.raises(SubpixelError) as caught:
        upscale(source, output)
    assert str(caught.value).startswith((f"{source}: ", f"{output}: "))
    if isinstance(error, SubpixelError):
        assert type(caught.value) is type(error)


def test_a_defect_names_its_film_too(upscale, monkeypatch, tmp_path):
    source = write(tmp_path / "a.mkv", pictures(3))
    failing(monkeypatch, AttributeError("'NoneType' object has no attribute 'name'"))
    with pytest.raises(AttributeError) as caught:
        upscale(source, tmp_path / "out.mkv")
    assert caught.value.__notes__ == [f"This was raised by work on {source}."]


@pytest.mark.parametrize("error", [*UNNAMED, AttributeError("no attribute 'name'")], ids=repr)
def test_the_command_names_the_film_and_goes_on(model, monkeypatch, tmp_path, error):
    films = tmp_path / "films"
    films.mkdir()
    write(films / "a.mkv", pictures(3))
    write(films / "b.mkv", pictures(3, 48, 32))
    failing(monkeypatch, error)
    arguments = [
        "upscale",
        str(films),
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
    assert line.startswith((f"error: {films / 'a.mkv'}: ", f"error: {tmp_path / 'out' / 'a.mkv'}: "))
    assert "Traceback" not in result.stderr
    assert result.exit_code == 1
    first, second = map(json.loads, result.stdout.splitlines())
    assert first == {"input": str(films / "a.mkv"), "error": line.removeprefix("error: ")}
    assert second["frames"] == 3


def test_a_defect_shows_where_it_is_when_asked(model, monkeypatch, tmp_path):
    source = write(tmp_path / "a.mkv", pictures(3))
    failing(monkeypatch, AttributeError("no attribute 'name'"))
    arguments = ["upscale", str(source), "-o", str(tmp_path / "out.mkv"), "-m", model, "--engine", "numpy"]
    result = CliRunner().invoke(app, [*arguments, "-v"])
    assert result.exit_code == 1
    assert f"error: {source}: failed as it never should (AttributeError: no" in result.stderr
    assert "Traceback" in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--crf", "70"], "crf of libsvtav1 must be 1 to 63, not 70"),
        (["--preset", "quick"], "unknown preset 'quick' of libsvtav1"),
        (["--codec", "prores_ks"], "WebM is not written with prores_ks, only with"),
    ],
)
def test_wrong_usage_that_only_a_film_shows_names_it(model, tmp_path, options, words):
    source = write(tmp_path / "a.mkv", pictures(3))
    arguments = ["upscale", str(source), "-o", str(tmp_path / "out.webm"), "-m", model, "--engine", "numpy"]
    result = CliRunner().invoke(app, [*arguments, *options])
    assert result.exit_code == 2
    assert f"error: {source}: {words}" in result.stderr


def test_a_clip_that_fails_in_evaluation_is_named(tmp_path):
    clip = write(tmp_path / "a.mkv", pictures(3))

    def fail(lr):
        raise EngineError("the engine failed")

    with pytest.raises(EngineError, match=f"^{clip}: the engine failed"):
        evaluate_clip(clip, fail, 2, Degradation("bicubic"))
    with pytest.raises(DatasetError, match=f"^{clip}: "):
        evaluate_clip(clip, fail, 30, Degradation("bicubic"))


def test_an_error_that_names_its_file_keeps_its_words(upscale, tmp_path):
    (tmp_path / "a.mkv").write_bytes(b"no film at all" * 99)
    with pytest.raises(InputError, match=r"^[^:]*a\.mkv: cannot be read \(Invalid data[^:]*\)$"):
        upscale(tmp_path / "a.mkv", tmp_path / "out.mkv")


# Streams that nobody could read


def element(id, *content):
    """An EBML element: its identifier in hexadecimal, its length in eight bytes, its content."""
    whole = b"".join(content)
    return bytes.fromhex(id) + struct.pack(">Q", len(whole) | 1 << 56) + whole


def number(value):
    return value.to_bytes(8, "big")


def squeezed(path, streams):
    """Motion JPEG and MP2 in Matroska, those of the ``streams`` compressed by bzlib."""
    plain = write(path.parent / "plain.mkv", pictures(5, format="yuvj420p"), codec="mjpeg", sound="mp2")
    with av.open(str(plain)) as file:
        packets = [(p.pts * p.time_base, p.stream_index, bytes(p)) for p in file.demux() if p.size]
    how = element("6D80", element("6240", element("5034", element("4254", number(1)))))
    kinds = [
        (number(1), b"V_MJPEG", element("E0", element("B0", number(64)), element("BA", number(48)))),
        (number(2), b"A_MPEG/L2", element("E1", element("B5", struct.pack(">d", 44100.0)))),
    ]
    tracks = [
        element(
            "AE",
            element("D7", number(index + 1)),
            element("73C5", number(index + 1)),
            element("83", kind),
            element("86", codec),
            settings,
            how if index in streams else b"",
        )
        for index, (kind, codec, settings) in enumerate(kinds)
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


def test_sound_that_bzlib_has_compressed_is_refused_before_the_work(upscale, tmp_path):
    source = squeezed(tmp_path / "in.mkv", {1})
    words = rf"^{source}: stream 1 \(audio, mp2\) is compressed by bzlib.*mkvmerge.*--drop-unsupported"
    with pytest.raises(UnsupportedVideo, match=words):
        upscale(source, tmp_path / "out.mkv")
    report = upscale(source, tmp_path / "out.mkv", drop_unsupported=True)
    assert any(n.startswith("left out: stream 1 (audio, mp2) is compressed") for n in report.warnings)
    assert len(decoded(tmp_path / "out.mkv")) == 5
    plain = squeezed(tmp_path / "plain-too.mkv", set())
    assert "left out" not in " ".join(upscale(plain, tmp_path / "kept.mkv").warnings)
    assert len(streams(tmp_path / "kept.mkv")) == 2


def test_a_picture_that_bzlib_has_compressed(upscale, tmp_path):
    source = squeezed(tmp_path / "in.mkv", {0})
    with pytest.raises(UnsupportedVideo, match=f"^{source}: its picture is compressed by bzlib"):
        upscale(source, tmp_path / "out.mkv")


def test_what_is_encrypted_is_refused(upscale, tmp_path):
    """By Common Encryption, as MP4s of shops are."""
    options = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0" * 32, "encryption_kid": "1" * 32}
    source = write(tmp_path / "in.mp4", pictures(5), sound="aac", container_options=options)
    with pytest.raises(UnsupportedVideo, match=f"^{source}: its picture is encrypted; decrypt it first"):
        upscale(source, tmp_path / "out.mkv")


# Damage is counted in frames


def settled(unusable, frames, gaps, *, numbers=(0, 99), damaged=0):
    decode_errors = DecodeErrors(frames=frames, damaged=damaged)
    decode_errors.settle(unusable, numbers, gaps)
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
def test_no_more_frames_are_damaged_than_there_are(tmp_path, extension, seed):
    codec = {"ts": "mpeg2video", "avi": "mpeg4", "mpg": "mpeg2video"}.get(extension, "libx264")
    options = {"movflags": "faststart"} if extension == "mp4" else {}
    source = write(
        tmp_path / f"in.{extension}",
        pictures(40, 160, 96),
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
        film = open_source(source)
    except InputError:
        return
    frames = sum(not is_packet(event) for event in film.events())
    film.close()
    decode_errors = film.decode_errors
    assert decode_errors.frames == frames
    assert 0 <= decode_errors.damaged <= frames
    assert 0 < decode_errors.damaged + decode_errors.lost <= 45
    assert 0 < decode_errors.share <= 1
    for notice in decode_errors.notices:
        assert (
            "damaged" not in notice or f"{decode_errors.damaged} frames were damaged, of {frames};" in notice
        )


# Where chroma lies


@pytest.mark.parametrize(
    ("codec", "said"),
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
def test_where_chroma_lies_is_not_made_up(upscale, tmp_path, codec, said):
    """H.264 has it at the left where nothing is said, as every H.264 has; what is said stays."""
    options = {"chroma_sample_location": said} if said else {}
    format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    source = write(tmp_path / "in.mkv", pictures(2, format=format), codec=codec, options=options)
    upscale(source, tmp_path / "out.mkv")
    expected = "center" if codec == "mjpeg" else said or "left"
    assert chroma_location(decoded(tmp_path / "out.mkv")[0]) == expected
    upscale(source, tmp_path / "lossless.mkv", codec="ffv1")
    with av.open(str(tmp_path / "lossless.mkv")) as file:
        assert says_where_chroma_lies(file.streams.video[0]) == (said is not None or codec == "mjpeg")


@pytest.mark.parametrize(("word", "place"), [("C420jpeg", "center"), ("C420mpeg2", "left")])
def test_yuv4mpeg2_says_where_chroma_lies(upscale, tmp_path, word, place):
    source = tmp_path / "in.y4m"
    source.write_bytes(f"YUV4MPEG2 W64 H48 F25:1 {word}\nFRAME\n".encode() + bytes(64 * 48 * 3 // 2))
    upscale(source, tmp_path / "out.mkv")
    assert chroma_location(decoded(tmp_path / "out.mkv")[0]) == place
