"""How commands report errors and signals."""

import signal
from pathlib import Path

import pytest
import skimage.data
import typer
from PIL import Image
from typer.testing import CliRunner

from subpixel import ModelError, OutputError, SubpixelError
from subpixel.cli import app
from subpixel.cli.errors import exit_on_error, handle_signals, signal_message
from training_configs import CONFIGS


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_with_its_code(
    number: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    cleaned = []
    with pytest.raises(typer.Exit) as caught, handle_signals("stopped"):
        try:
            signal.raise_signal(number)
        except Exception:  # an `except Exception` must not catch the signal
            pytest.fail("caught as an error")
        finally:
            cleaned.append(True)
    assert caught.value.exit_code == code
    assert cleaned
    assert capsys.readouterr().err == "stopped\n"
    assert signal.getsignal(number) is before


def test_signal_message_repaths_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), handle_signals("stopped"):
        with signal_message(lambda: "nothing was begun"):
            pass
        with signal_message(lambda: "all is kept"):
            signal.raise_signal(signal.SIGTERM)
    with pytest.raises(typer.Exit), handle_signals("stopped"):
        with signal_message(lambda: "all is kept"):
            pass
        signal.raise_signal(signal.SIGTERM)
    assert capsys.readouterr().err == "all is kept\nstopped\n"


def test_errors_are_one_line_and_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, exit_on_error(2, SubpixelError):
        raise ModelError("m.safetensors: no such model file")
    assert caught.value.exit_code == 2
    assert capsys.readouterr().err == "error: m.safetensors: no such model file\n"


def test_other_errors_pass() -> None:
    with pytest.raises(OutputError), exit_on_error(2, ModelError):
        raise OutputError("disk full")


LONG = "a" * 300


@pytest.mark.parametrize(
    "command",
    [
        "evaluate LONG -m fast-x2",
        "evaluate LONG.mp4 -m fast-x2",
        "evaluate IMAGES -m LONG.safetensors",
        "figures -m fast-x3 --engine numpy --dataset LONG -o OUT",
        "figures -m fast-x3 --engine numpy --dataset IMAGES -o LONG",
        "calibrate LONG IMAGES -o OUT.safetensors",
        "calibrate fast-x2 LONG -o OUT.safetensors",
        "calibrate fast-x2 IMAGES -o LONG.safetensors",
        "export fast-x2 -o LONG.onnx",
        "train LONG.toml",
        "train CONFIG --output LONG",
        "train CONFIG --output OCCUPIED",
    ],
)
def test_a_path_that_cannot_be_used_is_one_line(command: str, tmp_path: Path) -> None:
    if command.startswith(("train", "figures")):
        pytest.importorskip("torch" if command.startswith("train") else "matplotlib")
    (tmp_path / "images").mkdir()
    Image.fromarray(skimage.data.chelsea()).save(tmp_path / "images" / "a.png")
    (tmp_path / "occupied").touch()
    paths = {
        "LONG": str(tmp_path / LONG),
        "IMAGES": str(tmp_path / "images"),
        "OUT": str(tmp_path / "out"),
        "CONFIG": str(CONFIGS / "fast-x2.toml"),
        "OCCUPIED": str(tmp_path / "occupied"),
    }
    for name, path in paths.items():
        command = command.replace(name, path)
    result = CliRunner().invoke(app, command.split())
    assert result.exit_code in (1, 2), result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.splitlines()[-1].startswith("error: ")
