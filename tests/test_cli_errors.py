"""What all commands do with errors and with signals."""

import signal

import pytest
import typer

from subpixel import ModelError, OutputError, SubpixelError
from subpixel.cli.errors import exiting, stoppable


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


def test_errors_become_one_line_and_a_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, exiting(2, SubpixelError):
        raise ModelError("m.safetensors: no such model file")
    assert caught.value.exit_code == 2
    assert capsys.readouterr().err == "error: m.safetensors: no such model file\n"


def test_other_errors_pass() -> None:
    with pytest.raises(OutputError), exiting(2, ModelError):
        raise OutputError("disk full")
