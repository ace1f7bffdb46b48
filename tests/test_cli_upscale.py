import json
import os
import platform
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from image_files import interlaced_png16, picture
from interpolating import bicubic_model
from subpixel.cli import app
from subpixel.engines.select import available_cpus
from video_files import pictures, write


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "bicubic-x2.safetensors"
    bicubic_model(2).save(path)
    return str(path)


@pytest.fixture
def run(model):
    def run(*arguments):
        """The later of two equal options counts."""
        options = ["--model", model, "--engine", "numpy"]
        return CliRunner().invoke(app, ["upscale", *options, *map(str, arguments)])

    return run


@pytest.fixture
def folder(tmp_path):
    """Three pictures, one of them broken, one deeper."""
    source = tmp_path / "in"
    (source / "deeper").mkdir(parents=True)
    Image.fromarray(picture()).save(source / "a.png")
    (source / "b.png").write_bytes(imagecodecs.png_encode(picture())[:-30])
    Image.fromarray(picture()).save(source / "deeper" / "c.jpg")
    (source / "notes.txt").touch()
    return source


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_one_picture_quietly(run, folder, tmp_path):
    result = run(folder / "a.png", "-o", tmp_path / "out.png")
    assert (result.exit_code, result.output) == (0, "")
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (56, 40)


def test_chatter_of_libraries_is_kept_away(run, tmp_path):
    (tmp_path / "in.png").write_bytes(interlaced_png16(picture(dtype=np.uint16)))
    assert run(tmp_path / "in.png", "-o", tmp_path / "out.png").output == ""


def test_names_that_are_no_text(model, folder, tmp_path):
    name = os.fsencode(folder) + b"/\xff\xfe.png"
    (folder / "b.png").rename(os.fsdecode(name))
    done = subprocess.run(
        [*command(model, os.fsdecode(name), "-o", tmp_path / "out"), "--json"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: ")
    assert json.loads(done.stdout)["input"] == os.fsdecode(name)


def test_a_folder_goes_on_past_a_broken_file(run, folder, tmp_path):
    result = run(folder, "-o", tmp_path / "out", "--recursive")
    assert result.exit_code == 1
    assert files(tmp_path / "out") == ["a.png", "deeper/c.jpg"]
    assert result.stderr == f"error: {folder / 'b.png'}: the file is cut off; get it anew\n"
    assert result.stdout == ""


def test_json(run, folder, tmp_path):
    result = run(folder, "-o", tmp_path / "out", "--json")
    assert result.exit_code == 1
    done, failed = map(json.loads, result.stdout.splitlines())
    assert done.pop("seconds") >= 0
    assert done == {
        "input": str(folder / "a.png"),
        "output": str(tmp_path / "out" / "a.png"),
        "scale": 2,
        "model": "bicubic-x2",
        "engine": "numpy",
        "precision": "fp32",
        "target": platform.machine(),
        "threads": available_cpus(),
        "reason": f"numpy on {platform.machine()}, {available_cpus()} threads, fp32: asked for",
        "content": "",
        "content_reason": "",
        "width": 56,
        "height": 40,
        "warnings": [],
        "notices": [],
    }
    assert failed == {
        "input": str(folder / "b.png"),
        "error": f"{folder / 'b.png'}: the file is cut off; get it anew",
    }


def test_notices_and_details(run, folder, tmp_path):
    Image.fromarray(picture()).convert("CMYK").save(folder / "a.jpg")
    result = run(folder / "a.jpg", folder / "a.png", "-o", tmp_path / "out", "-v")
    assert result.exit_code == 0
    assert f"note: {folder / 'a.jpg'}: converted from CMYK to RGB\n" in result.stderr
    assert "model bicubic-x2, engine numpy" in result.stderr
    assert re.search(r"a\.png -> .*out/a\.png: 56 x 40, bicubic-x2, \d+\.\d s", result.stderr)


def test_files_left_aside_are_counted(run, folder, tmp_path):
    assert "1 files left aside" in run(folder, "-o", tmp_path / "out", "-v").stderr


def test_overwrite(run, folder, tmp_path):
    output = tmp_path / "out.png"
    output.write_bytes(b"mine")
    result = run(folder / "a.png", "-o", output)
    assert (result.exit_code, output.read_bytes()) == (1, b"mine")
    assert (
        result.stderr == f"error: {output}: exists already; pass --overwrite (overwrite=True) to replace it\n"
    )
    assert run(folder / "a.png", "-o", output, "--overwrite").exit_code == 0
    assert output.read_bytes()[:4] == b"\x89PNG"


def test_the_input_itself(run, folder):
    result = run(folder / "a.png", "-o", folder / "a.png", "--overwrite")
    assert result.exit_code == 1
    assert "is the input itself" in result.stderr


def test_missing_input(run, tmp_path):
    result = run(tmp_path / "none.png", "-o", tmp_path / "out.png")
    assert result.exit_code == 1
    assert "none.png: cannot be read (No such file or directory)" in result.stderr


def test_limit(run, folder, tmp_path):
    result = run(folder / "a.png", "-o", tmp_path / "out.png", "--max-output-pixels", 2239)
    assert result.exit_code == 1
    assert "a.png: would become 56 x 40 pixels, more than the limit of 2239" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "out.gif"], "known: .png"),
        (["-o", "in.d/", "-s", "3"], "enlarges x2, not x3"),
        (["-o", "out.png", "--engine", "gpu"], "unknown engine 'gpu'"),
        (["-o", "out.png", "--precision", "fp8"], "unknown precision 'fp8'"),
        (["-o", "out.png", "--content", "clean"], "give a model or a content, not both"),
    ],
)
def test_wrong_usage(run, folder, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    result = run(folder / "a.png", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert files(tmp_path) == [f"in/{name}" for name in files(folder)]


@pytest.mark.parametrize("arguments", [[], ["in.png"], ["in.png", "-o", "out.png", "--quality", "0"]])
def test_wrong_arguments(run, arguments):
    assert run(*arguments).exit_code == 2


def test_what_became_of_the_input_chooses_the_model(tmp_path):
    """A film counts as compressed, but for YUV4MPEG2; whoever knows better says so."""
    Image.fromarray(picture()).save(tmp_path / "a.png")
    inputs = [tmp_path / "a.png", tmp_path / "b.mkv", tmp_path / "c.y4m"]
    for path, codec in zip(inputs[1:], ("libx264", "wrapped_avframe"), strict=True):
        write(path, pictures(2), codec=codec)

    def models(*options):
        arguments = ["upscale", *inputs, "-o", tmp_path / "out", "--json", "--overwrite", *options]
        arguments += ["--engine", "onnxruntime"]  # which compiles nothing
        result = CliRunner().invoke(app, list(map(str, arguments)))
        assert result.exit_code == 0, result.output
        return [json.loads(line)["model"] for line in result.stdout.splitlines()]

    assert models() == ["default-x2", "default-compressed-x2", "default-x2"]
    assert models("--content", "clean", "-s", "3") == ["default-x3"] * 3
    assert models("--content", "compressed") == ["default-compressed-x2"] * 3
    result = CliRunner().invoke(
        app, ["upscale", str(inputs[0]), "-o", str(tmp_path / "d.png"), "--content", "old"]
    )
    assert result.exit_code == 2
    assert "unknown content 'old'; known: auto, clean, compressed" in result.stderr


def test_a_network_without_a_scale(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    result = CliRunner().invoke(
        app, ["upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png"), "-m", "fast", "--json"]
    )
    assert json.loads(result.stdout)["model"] == "fast-x2"


@pytest.mark.parametrize("stream", [1, 2])
def test_streams_that_are_closed(model, folder, tmp_path, stream):
    arguments = ["upscale", "--json", folder / "a.png", "-o", tmp_path / "out.png", "-m", model]
    command = [sys.executable, "-m", "subpixel", *map(str, arguments)]
    done = subprocess.run(["sh", "-c", f'exec "$@" {stream}>&-', "sh", *command], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    "arguments", [["models"], ["models", "--json"], ["upscale", "--json"], ["--version"], ["--help"]]
)
def test_a_full_stdout(model, folder, tmp_path, arguments):
    if arguments[0] == "upscale":
        arguments = [*arguments, folder / "a.png", "-o", tmp_path / "out.png", "-m", model]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "subpixel", *map(str, arguments)], stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 1
    assert done.stderr == b"error: stdout could not be written (No space left on device)\n"


def test_a_closed_stdout_costs_no_picture(model, folder, tmp_path):
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes())
    reader, writer = os.pipe()
    os.close(reader)
    arguments = ["upscale", "--json", folder, "-o", tmp_path / "out", "-m", model]
    done = subprocess.run(
        [sys.executable, "-m", "subpixel", *map(str, arguments)], stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
    assert files(tmp_path / "out") == ["a.png", "b.png"]


def test_a_name_that_no_file_has(run, folder, tmp_path):
    result = run(folder / "a.png", "-o", tmp_path / f"{'a' * 300}.png")
    assert result.exit_code == 1
    assert result.stderr.endswith("cannot write there (File name too long)\n")
    for extension in ("png", "mkv"):
        result = run(f"{'a' * 300}.{extension}", "-o", tmp_path / f"b.{extension}")
        assert result.exit_code == 1
        assert result.stderr.endswith("cannot be read (File name too long)\n")


def test_unknown_model(run, folder, tmp_path):
    result = run(folder / "a.png", "-o", tmp_path / "out.png", "-m", "nonesuch")
    assert result.exit_code == 2
    assert "no packaged model 'nonesuch'; packaged: " in result.stderr


def command(model, *arguments):
    return [
        sys.executable,
        "-m",
        "subpixel",
        "upscale",
        *map(str, arguments),
        "--model",
        model,
        "--threads",
        "1",
    ]


@pytest.fixture
def slow(tmp_path):
    """A picture that takes some seconds."""
    path = tmp_path / "slow.png"
    noise = np.random.default_rng(0).integers(0, 65536, (1500, 1500, 3), np.uint16)
    path.write_bytes(imagecodecs.png_encode(noise, level=1))
    return path


def wait_for_part(folder, process):
    while not (parts := list(folder.glob(".*.part"))):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    return parts[0]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("moment", ["while enlarging", "while writing"])
def test_stopped(model, slow, tmp_path, signum, code, moment):
    out = tmp_path / "out"
    out.mkdir()
    with subprocess.Popen(
        command(model, slow, "-o", out / "slow.png"), stderr=subprocess.PIPE, text=True
    ) as process:
        part = wait_for_part(out, process)
        while moment == "while writing" and part.exists() and part.stat().st_size == 0:
            time.sleep(0.001)
        process.send_signal(signum)
        _, errors = process.communicate()
    assert process.returncode == code
    assert "Traceback" not in errors
    assert "interrupted" in errors
    assert files(out) == []


def test_kill_9(model, slow, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with subprocess.Popen(command(model, slow, "-o", out / "slow.png")) as process:
        part = wait_for_part(out, process)
        process.kill()
    assert files(out) == [part.name]
    Image.fromarray(picture()).save(slow)
    subprocess.run(command(model, slow, "-o", out / "slow.png"), check=True)
    assert files(out) == ["slow.png"]


def test_a_full_disk(model, tmp_path):
    import resource

    Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)).save(
        tmp_path / "in.png"
    )
    # The network is compiled and kept before: its file would be the first that finds no room.
    subprocess.run(command(model, tmp_path / "in.png", "-o", tmp_path / "first.png"), check=True)
    for extension in ("png", "jpg", "webp", "tif", "bmp"):
        done = subprocess.run(
            command(model, tmp_path / "in.png", "-o", tmp_path / "out" / f"out.{extension}"),
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
        )
        assert done.returncode == 1, done
        assert done.stderr.startswith(f"error: {tmp_path}/out/out.{extension}: could not be written")
        assert files(tmp_path / "out") == []


def test_progress_on_a_terminal(model, folder, tmp_path):
    """There is a bar there, and a line for each picture; names are not taken for markup."""
    name = "[red]a.png"
    (folder / "a.png").rename(folder / name)
    main, other = pty.openpty()
    with subprocess.Popen(
        command(model, folder / name, "-o", tmp_path / "out"),
        stderr=other,
        env=os.environ | {"TERM": "xterm"},
    ) as process:
        os.close(other)
        seen = b""
        while True:
            try:
                seen += os.read(main, 1000)
            except OSError:
                break
    os.close(main)
    assert process.returncode == 0
    assert "━".encode() in seen
    assert b"[red]a.png" in seen
    assert b"56 x 40" in seen
