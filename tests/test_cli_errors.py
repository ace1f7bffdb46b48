"""What all commands do with errors and with signals."""

import signal
from pathlib import Path

import pytest
import skimage.data
import typer
from PIL import Image
from typer.testing import CliRunner

from recipes import CONFIGS
from subpixel import ModelError, OutputError, SubpixelError
from subpixel.cli import app
from subpixel.cli.errors import exiting, saying, stoppable


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_with_its_code(
    number: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    cleaned = []
    with pytest.raises(typer.Exit) as caught, stoppable("stopped"):
        try:
            signal.raise_signal(number)
        except Exception:  # what catches errors must not catch this
            pytest.fail("caught as an error")
        finally:
            cleaned.append(True)
    assert caught.value.exit_code == code
    assert cleaned
    assert capsys.readouterr().err == "stopped\n"
    assert signal.getsignal(number) is before


def test_work_may_have_other_words_for_a_signal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), stoppable("stopped"):
        with saying("nothing was begun"):
            pass
        with saying("all is kept"):
            signal.raise_signal(signal.SIGTERM)
    with pytest.raises(typer.Exit), stoppable("stopped"):
        with saying("all is kept"):
            pass
        signal.raise_signal(signal.SIGTERM)
    assert capsys.readouterr().err == "all is kept\nstopped\n"


def test_errors_become_one_line_and_a_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, exiting(2, SubpixelError):
        raise ModelError("m.safetensors: no such model file")
    assert caught.value.exit_code == 2
    assert capsys.readouterr().err == "error: m.safetensors: no such model file\n"


def test_other_errors_pass() -> None:
    with pytest.raises(OutputError), exiting(2, ModelError):
        raise OutputError("disk full")


LONG = "a" * 300


@pytest.mark.parametrize(
    "command",
    [
        "evaluate LONG -m fast-x2",
        "evaluate LONG.mp4 -m fast-x2",
        "evaluate PICTURES -m LONG.safetensors",
        "figures -m fast-x3 --engine numpy --dataset LONG -o OUT",
        "figures -m fast-x3 --engine numpy --dataset PICTURES -o LONG",
        "calibrate LONG PICTURES -o OUT.safetensors",
        "calibrate fast-x2 LONG -o OUT.safetensors",
        "calibrate fast-x2 PICTURES -o LONG.safetensors",
        "export fast-x2 -o LONG.onnx",
        "train LONG.toml",
        "train CONFIG --output LONG",
        "train CONFIG --output OCCUPIED",
    ],
)
def test_a_name_that_no_file_can_have_is_one_line(command: str, tmp_path: Path) -> None:
    if command.startswith(("train", "figures")):
        pytest.importorskip("torch" if command.startswith("train") else "matplotlib")
    (tmp_path / "pictures").mkdir()
    Image.fromarray(skimage.data.chelsea()).save(tmp_path / "pictures" / "a.png")
    (tmp_path / "occupied").touch()
    places = {
        "LONG": str(tmp_path / LONG),
        "PICTURES": str(tmp_path / "pictures"),
        "OUT": str(tmp_path / "out"),
        "CONFIG": str(CONFIGS / "fast-x2.toml"),
        "OCCUPIED": str(tmp_path / "occupied"),
    }
    for name, path in places.items():
        command = command.replace(name, path)
    result = CliRunner().invoke(app, command.split())
    assert result.exit_code in (1, 2), result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.splitlines()[-1].startswith("error: ")
