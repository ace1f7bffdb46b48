"""What is told of a film: every error names its file, and nothing that it carries is lost without a word."""

import io
import json
from fractions import Fraction
from types import SimpleNamespace

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
from subpixel.video.frames import FrameUpscaler
from subpixel.video.hdr import attached, display_matrix, unknown
from video_files import decoded, pictures, write


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
    assert "left out, as it cannot be passed on: EXIF" in report.notices
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
    carrying = SimpleNamespace(side_data=[SimpleNamespace(type=Type(number)) for number in (6, 29, 999)])
    assert unknown(carrying) == ["which view it is (MV-HEVC)", "FFmpeg's side data number 999"]


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
