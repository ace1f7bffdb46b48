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

from image_files import interlaced_png16, smooth_image
from subpixel.cli import app
from subpixel.engines.select import available_cpus
from video_files import make_frames, write


@pytest.fixture
def run(model):
    def run(*arguments):
        """An option in the arguments replaces the same option here."""
        options = ["--model", model, "--engine", "numpy"]
        return CliRunner().invoke(app, ["upscale", *options, *map(str, arguments)])

    return run


@pytest.fixture
def folder(tmp_path):
    """Three images: one is broken, one is in a subfolder."""
    source = tmp_path / "in"
    (source / "deeper").mkdir(parents=True)
    Image.fromarray(smooth_image()).save(source / "a.png")
    (source / "b.png").write_bytes(imagecodecs.png_encode(smooth_image())[:-30])
    Image.fromarray(smooth_image()).save(source / "deeper" / "c.jpg")
    (source / "notes.txt").touch()
    return source


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_one_image_prints_nothing(run, folder, tmp_path):
    result = run(folder / "a.png", "-o", tmp_path / "out.png")
    assert (result.exit_code, result.output) == (0, "")
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (56, 40)


def test_warnings_of_libraries_are_not_printed(run, tmp_path):
    (tmp_path / "in.png").write_bytes(interlaced_png16(smooth_image(dtype=np.uint16)))
    assert run(tmp_path / "in.png", "-o", tmp_path / "out.png").output == ""


def test_file_names_that_are_not_utf8(model, folder, tmp_path):
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


def test_a_folder_with_a_broken_file(run, folder, tmp_path):
    result = run(folder, "-o", tmp_path / "out", "--recursive")
    assert result.exit_code == 1
    assert files(tmp_path / "out") == ["a.png", "deeper/c.jpg"]
    error, summary, failed = result.stderr.splitlines()
    assert error == f"error: {folder / 'b.png'}: the file is truncated; get it again"
    assert re.fullmatch(r"2 of 3 files done in \d+\.\d s \(\d+ kB\), 1 failed:", summary)
    assert failed == f"  {folder / 'b.png'}"
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
        "sharpness": 0.0,
        "reason": f"numpy on {platform.machine()}, {available_cpus()} threads, fp32: requested",
        "content": "",
        "content_reason": "",
        "width": 56,
        "height": 40,
        "frames": 1,
        "warnings": [],
        "notices": [],
    }
    assert failed == {
        "input": str(folder / "b.png"),
        "error": f"{folder / 'b.png'}: the file is truncated; get it again",
    }


def test_warnings_and_details(run, folder, tmp_path):
    Image.fromarray(smooth_image()).convert("CMYK").save(folder / "a.jpg")
    result = run(folder / "a.jpg", folder / "a.png", "-o", tmp_path / "out", "-v")
    assert result.exit_code == 0
    assert f"note: {folder / 'a.jpg'}: converted from CMYK to RGB\n" in result.stderr
    assert "model bicubic-x2, engine numpy" in result.stderr
    assert re.search(r"a\.png -> .*out/a\.png: 56 x 40, bicubic-x2, \d+\.\d s", result.stderr)


def test_skipped_files_are_counted(run, folder, tmp_path):
    assert "skipped 1 files without" in run(folder, "-o", tmp_path / "out", "-v").stderr


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


def test_the_output_is_the_input(run, folder):
    result = run(folder / "a.png", "-o", folder / "a.png", "--overwrite")
    assert result.exit_code == 1
    assert "is the input file" in result.stderr


@pytest.mark.parametrize(
    "arguments", [("s3://", "-o", "out"), ("in", "-o", "s3://"), ("in/a.png", "-o", "S3:")]
)
def test_a_url_without_a_bucket_is_refused(run, folder, tmp_path, monkeypatch, arguments):
    """Behind ``s3://``, names of outputs would become names of buckets."""
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (2, "error: s3://: names no bucket; write s3://BUCKET/NAME\n")
    assert not os.path.lexists("S3:") and not os.path.lexists("out")


def test_missing_input(run, tmp_path):
    result = run(tmp_path / "none.png", "-o", tmp_path / "out.png")
    assert result.exit_code == 1
    assert "none.png: cannot be read (No such file or directory)" in result.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "https://example.com/x/c.png",
            "https://example.com/x/c.png: is a URL, and only local files and s3:// are read",
        ),
        ("http://example.com/c.mp4", "http://example.com/c.mp4: is a URL, and only local files and s3://"),
        ("file:///c.png", "c.png: is a URL, and only local files and s3:// are read; pass its path"),
        ("in/*.gif", "in/*.gif: is a pattern, not a file: no file matches it"),
        ("in/[ab].png", "in/[ab].png: is a pattern, not a file: pass the files that it matches"),
        ("in/?.mkv", "in/?.mkv: is a pattern, not a file: no file matches it"),
    ],
)
def test_urls_and_patterns_are_explained(run, folder, tmp_path, monkeypatch, given, message):
    """The other inputs are done."""
    monkeypatch.chdir(tmp_path)
    result = run(given, "in/a.png", "-o", "out")
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("error: ") == 1
    assert files(tmp_path / "out") == ["a.png"]


def test_a_file_may_have_the_name_of_a_pattern(run, folder, tmp_path):
    (folder / "a.png").rename(folder / "a[1]*.png")
    assert run(folder / "a[1]*.png", "-o", tmp_path / "out.png").exit_code == 0


def test_limit(run, folder, tmp_path):
    result = run(folder / "a.png", "-o", tmp_path / "out.png", "--max-output-pixels", 2239)
    assert result.exit_code == 1
    assert "a.png: would become 56 x 40 pixels, more than the limit of 2239" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "out.psd"], "known: .png"),
        (["-o", "in.d/", "-s", "17"], "at least 1 and at most 16, not 17"),
        (["-o", "out.png", "--engine", "gpu"], "unknown engine 'gpu'"),
        (["-o", "out.png", "--precision", "fp8"], "unknown precision 'fp8'"),
        (["-o", "out.png", "--content", "clean"], "either a model or a content"),
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


def test_the_content_selects_the_model(tmp_path):
    """Videos other than YUV4MPEG2 are compressed, unless --content says otherwise."""
    Image.fromarray(smooth_image()).save(tmp_path / "a.png")
    inputs = [tmp_path / "a.png", tmp_path / "b.mkv", tmp_path / "c.y4m"]
    for path, codec in zip(inputs[1:], ("libx264", "wrapped_avframe"), strict=True):
        write(path, make_frames(2), codec=codec)

    def models(*options):
        arguments = ["upscale", *inputs, "-o", tmp_path / "out", "--json", "--overwrite", *options]
        arguments += ["--engine", "onnxruntime"]  # compiles nothing
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


def test_a_model_name_without_a_scale(tmp_path):
    Image.fromarray(smooth_image()).save(tmp_path / "a.png")
    result = CliRunner().invoke(
        app, ["upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png"), "-m", "fast", "--json"]
    )
    assert json.loads(result.stdout)["model"] == "fast-x2"


@pytest.mark.parametrize("stream", [1, 2])
def test_closed_streams(model, folder, tmp_path, stream):
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


def test_all_images_are_written_when_stdout_is_closed(model, folder, tmp_path):
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


def test_a_file_name_that_is_too_long(run, folder, tmp_path):
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
    """An image that takes some seconds."""
    path = tmp_path / "slow.png"
    noise = np.random.default_rng(0).integers(0, 65536, (1500, 1500, 3), np.uint16)
    path.write_bytes(imagecodecs.png_encode(noise, level=1))
    return path


def wait_for_partial_file(folder, process):
    while not (parts := list(folder.glob(".*.part"))):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    return parts[0]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("moment", ["while upscaling", "while writing"])
def test_a_signal_leaves_no_file(model, slow, tmp_path, signum, code, moment):
    out = tmp_path / "out"
    out.mkdir()
    with subprocess.Popen(
        command(model, slow, "-o", out / "slow.png"), stderr=subprocess.PIPE, text=True
    ) as process:
        part = wait_for_partial_file(out, process)
        while moment == "while writing" and part.exists() and part.stat().st_size == 0:
            time.sleep(0.001)
        process.send_signal(signum)
        _, errors = process.communicate()
    assert process.returncode == code
    assert "Traceback" not in errors
    assert "interrupted" in errors
    assert files(out) == []


def test_the_next_run_removes_the_partial_file_of_a_killed_one(model, slow, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with subprocess.Popen(command(model, slow, "-o", out / "slow.png")) as process:
        part = wait_for_partial_file(out, process)
        process.kill()
    assert files(out) == [part.name]
    Image.fromarray(smooth_image()).save(slow)
    subprocess.run(command(model, slow, "-o", out / "slow.png"), check=True)
    assert files(out) == ["slow.png"]


def test_a_full_disk(model, tmp_path):
    import resource

    Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)).save(
        tmp_path / "in.png"
    )
    # Compile and cache the network first; its file would be the first that does not fit.
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
    """A terminal shows a bar and a line for each image; brackets in names are not markup."""
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
