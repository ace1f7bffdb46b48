"""What the command refuses before any work, and what it warns about afterwards."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from image_files import smooth_image
from subpixel.cli import app
from video_files import make_frames, write


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    """An image, a video and a folder of both, in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("both").mkdir()
    Image.fromarray(smooth_image()).save("a.png")
    Image.fromarray(smooth_image()).save("both/a.png")
    for video in ("b.mkv", "both/b.mkv"):
        write(Path(video), make_frames(2))
    return tmp_path


@pytest.fixture
def run(model):
    return lambda *arguments: CliRunner().invoke(
        app, ["upscale", "--model", model, "--engine", "numpy", *map(str, arguments)]
    )


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


VIDEO_OPTIONS = [
    ("--codec", "libx264"),
    ("--crf", "20"),
    ("--preset", "fast"),
    ("--codec-option", "tune=film"),
    ("--container", "mp4"),
    ("--start", "0"),
    ("--end", "1"),
    ("--deinterlace", "fields"),
    ("--field-order", "top"),
    ("--inverse-telecine",),
    ("--square-pixels",),
    ("--grain", "keep"),
    ("--drop-unsupported",),
    ("--max-damage", "0.1"),
]
IMAGE_OPTIONS = [
    ("--wrap", "both"),
    ("--quality", "95"),
    ("--max-output-pixels", "100000"),
    ("--max-memory", "1000"),
    ("--jobs", "2"),
]


@pytest.mark.parametrize("option", VIDEO_OPTIONS, ids=lambda option: option[0])
def test_video_options_need_a_video(workdir, run, option):
    before = files(workdir)
    result = run("a.png", "-o", "out.png", *option)
    assert result.exit_code == 2
    assert result.stderr == f"error: {option[0]} is for videos, and no input is one; leave it out\n"
    assert files(workdir) == before


@pytest.mark.parametrize("option", IMAGE_OPTIONS, ids=lambda option: option[0])
def test_image_options_need_an_image(workdir, run, option):
    before = files(workdir)
    result = run("b.mkv", "-o", "out.mkv", *option)
    assert result.exit_code == 2
    assert result.stderr == f"error: {option[0]} is for images, and no input is one; leave it out\n"
    assert files(workdir) == before


@pytest.mark.parametrize(("panel", "options"), [("Images", IMAGE_OPTIONS), ("Videos", VIDEO_OPTIONS)])
def test_all_options_of_a_panel_are_tested(panel, options):
    """The panel of `--help` that shows an option decides how it is checked."""
    parameters = typer.main.get_command(app).commands["upscale"].params
    shown = {one.opts[0] for one in parameters if getattr(one, "rich_help_panel", None) == panel}
    assert shown == {option[0] for option in options}


def test_quality_needs_a_lossy_format(workdir, run):
    result = run("a.png", "-o", "out.png", "--quality", "80")
    assert result.exit_code == 2
    assert (
        result.stderr
        == "error: --quality is for JPEG, WebP, AVIF, JPEG XL, and no output is one; leave it out\n"
    )
    for extension in ("jpg", "webp"):
        assert run("a.png", "-o", f"out.{extension}", "--quality", "80").exit_code == 0


def test_an_option_is_accepted_if_one_input_can_use_it(workdir, run):
    result = run("both", "-o", "out", "--crf", "30", "--max-output-pixels", "100000")
    assert result.exit_code == 0, result.output
    assert files(workdir / "out") == ["a.png", "b.mkv"]


def test_other_commands_refuse_unused_options(workdir):
    for arguments, words in (
        (["evaluate", "both", "-s", "2", "-m", "bicubic", "--engine", "numpy"], "bicubic is not a network"),
        (["figures", "-o", "f", "--threads", "1"], "are for the figures that need --dataset"),
    ):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 2, result.output
        assert words in result.stderr
    assert not Path("f").exists()


def on_a_terminal(arguments, *, stdin=False, stdout=False, stderr=False):
    """Run a command with some streams on a terminal; return exit code, terminal output and stderr."""
    main, other = pty.openpty()

    def stream(wanted):
        return other if wanted else subprocess.DEVNULL

    with subprocess.Popen(
        [sys.executable, "-m", "subpixel", *map(str, arguments)],
        stdin=stream(stdin),
        stdout=stream(stdout),
        stderr=other if stderr else subprocess.PIPE,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "80"},
    ) as process:
        os.close(other)
        seen = b""
        while True:
            try:
                chunk = os.read(main, 1000)
            except OSError:
                break
            if not chunk:
                break
            seen += chunk
        errors = b"" if stderr else process.stderr.read()
    os.close(main)
    return process.returncode, seen, errors.decode()


def test_a_video_is_not_written_to_the_terminal(workdir, model):
    code, seen, errors = on_a_terminal(["upscale", "b.mkv", "-o", "-", "-m", model], stdout=True)
    assert (code, seen) == (2, b"")
    assert errors.startswith("error: -o - would write a video to the terminal; ")


def test_a_video_is_not_read_from_the_keyboard(workdir, model):
    code, _, errors = on_a_terminal(["upscale", "-", "-o", "c.mkv", "-m", model], stdin=True)
    assert code == 2
    assert errors.startswith("error: - is a video on stdin, and stdin is the terminal; ")
    assert not Path("c.mkv").exists()


@pytest.mark.parametrize("progress", ["auto", "none"])
def test_success_prints_a_line_per_file_on_a_terminal(workdir, model, progress):
    arguments = ["upscale", "both", "-o", "out", "-m", model, "--engine", "numpy", "--progress", progress]
    code, seen, _ = on_a_terminal(arguments, stderr=True)
    assert code == 0
    lines = [line for line in seen.decode().splitlines() if " -> " in line]
    assert len(lines) == 2
    assert "both/a.png -> out/a.png: 56 x 40" in lines[0]
    assert "both/b.mkv -> out/b.mkv: " in lines[1]


def test_a_warning_when_a_folder_is_created_for_one_file(workdir, run):
    result = run("a.png", "-o", "result")
    assert result.exit_code == 0
    assert result.stderr == (
        "note: result: was created as a folder, as its name has no extension such as .png; "
        "the result is result/a.png\n"
    )
    for again in (
        ("a.png", "-o", "result", "--overwrite"),
        ("a.png", "-o", "other/"),
        ("both", "-o", "third"),
    ):
        assert run(*again).stderr == ""


def test_a_warning_when_an_image_becomes_a_video(workdir, run):
    result = run("a.png", "-o", "a.mkv")
    assert result.exit_code == 0, result.output
    assert (
        "note: a.png: is an image, and a.mkv a video of one frame; for an image, end the output in .png"
        in result.stderr
    )


def test_a_warning_when_an_image_goes_through_a_pipe(workdir, run):
    result = run("a.png", "-o", "-")
    assert result.exit_code == 0, result.output
    assert "note: a.png: is an image, and the output a video of one frame" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["upscale", "", "-o", "new"],
        ["upscale", "a.png", "-o", ""],
        ["upscale", "a.png", "--output="],
        ["upscale", "a.png", "-o", "new.png", "-m", ""],
        ["evaluate", "pictures", "-m", "", "-s", "2"],
        ["bench", "--model="],
    ],
    ids=" ".join,
)
def test_an_empty_argument_is_refused(workdir, arguments):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "is empty" in result.stderr
    assert not Path("new").exists()
    assert not Path("new.png").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["upscale", "~/a.png", "-o", "b.png"],
        ["upscale", "a.png", "-o", "~/b.png"],
        ["upscale", "a.png", "-o~/b.png"],
        ["upscale", "a.png", "--output=~/b.png"],
        ["upscale", "a.png", "-o", "~"],
        ["upscale", "a.png", "-o", "b.png", "--model", "~/m.safetensors"],
        ["export", "fast", "-o", "~/m.onnx"],
        ["evaluate", "~/Set5", "-s", "2"],
        ["train", "~/config.toml"],
        ["calibrate", "fast", "~/pictures", "-o", "m.safetensors"],
        ["figures", "-o", "~/figures"],
        ["bench", "--plot", "~/bars.png"],
    ],
    ids=" ".join,
)
def test_an_unexpanded_home_is_refused(workdir, monkeypatch, arguments):
    monkeypatch.setenv("HOME", "/home/somebody")
    before = files(workdir)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "the shell does not expand ~ inside quotes and after =; write /home/somebody" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert files(workdir) == before


def test_a_file_name_may_begin_with_a_tilde(workdir, run):
    """If the file exists, or there is no user of that name."""
    Path("~").mkdir()
    Path("a.png").rename("~/a.png")
    assert run("~/a.png", "-o", "~backup.png").exit_code == 0
    assert run("~backup.png", "-o", "~no-such-user/b.png").exit_code == 0
    assert Path("~no-such-user/b.png").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["upscale", "broken.png", "-o", "new/deep/b.png"],
        ["upscale", "broken.png", "-o", "new"],
        ["upscale", "broken.mkv", "-o", "new/b.mkv"],
        ["upscale", "missing.png", "-o", "new/"],
        ["upscale", "a.png", "-o", "new/b.png", "--max-output-pixels", "10"],
        ["export", "fast", "-o", "a.png/new.onnx"],
        ["train", "config.toml", "--datasets", "none", "-o", "new"],
    ],
    ids=" ".join,
)
def test_a_failed_command_leaves_no_empty_folder(workdir, arguments):
    if arguments[0] == "train":
        pytest.importorskip("torch")
        from training_configs import CONFIGS

        Path("config.toml").write_text((CONFIGS / "espcn-t91-x3.toml").read_text())
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Path("broken.mkv").write_bytes(b"\x1aE\xdf\xa3")
    before = files(workdir)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1, result.output
    assert files(workdir) == before


def test_a_failed_command_keeps_existing_folders(workdir, run):
    Path("new").mkdir()
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert run("broken.png", "-o", "new/deeper/b.png").exit_code == 1
    assert Path("new").is_dir()
    assert not Path("new/deeper").exists()


def test_only_json_is_on_stdout(workdir, run):
    result = run("a.png", "-o", "result", "--json")
    assert json.loads(result.stdout)["output"] == "result/a.png"
