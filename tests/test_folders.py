"""Runs over folders: outputs that exist, suffixes, the summary, interruptions."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from image_files import smooth_image
from subpixel.cli import app
from subpixel.cli.upscale_jobs import MemoryBudget
from subpixel.storage.local import LocalStorage
from subpixel.video.pipeline.outputs import record_output
from subpixel.video.pipeline.segments import SegmentFolder
from video_files import make_frames, write


@pytest.fixture
def run(model):
    return lambda *arguments: CliRunner().invoke(
        app, ["upscale", "--model", model, "--engine", "numpy", *map(str, arguments)]
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two images, and one in a subfolder, in the current folder's `in`."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png", "deep/c.jpg"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(smooth_image()).save(path)
    return tmp_path


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def contents(folder):
    return {name: (folder / name).read_bytes() for name in files(folder)}


def lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_skip_existing(folder, run):
    Path("out").mkdir()
    Path("out/a.png").write_bytes(b"mine")
    result = run("in", "-o", "out", "--recursive", "--skip-existing")
    assert result.exit_code == 0
    assert files(folder / "out") == ["a.png", "b.png", "deep/c.jpg"]
    assert Path("out/a.png").read_bytes() == b"mine"
    assert re.fullmatch(r"2 of 3 files done in .* \(\d+ kB\), 1 skipped\n", result.stderr)


def test_skipped_files_in_json(folder, run):
    run("in/a.png", "-o", "out/")
    done = lines(run("in", "-o", "out", "--skip-existing", "--json"))
    assert done[0] == {"input": "in/a.png", "output": "out/a.png", "skipped": "the output exists"}
    assert [line["input"] for line in done] == ["in/a.png", "in/b.png"]


def test_no_model_is_loaded_if_all_outputs_exist(folder, run, monkeypatch):
    run("in", "-o", "out")
    monkeypatch.setattr("subpixel.selection.load", lambda *_, **__: pytest.fail("loaded"))
    result = run("in", "-o", "out", "--skip-existing")
    assert (result.exit_code, result.stderr.split(" in ")[0]) == (0, "0 of 2 files done")


def test_a_missing_input_fails_although_its_output_exists(folder, run):
    run("in", "-o", "out")
    result = run("in/a.png", "in/b.png", "in/none.png", "-o", "out", "--skip-existing")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "  in/none.png"


@pytest.mark.parametrize("option", ["--skip-existing", "--newer"])
def test_an_output_that_is_the_input_is_not_skipped(folder, run, option):
    Path("link.png").symlink_to("in/a.png")
    for output in ("in/a.png", "link.png"):
        result = run("in/a.png", "-o", output, option)
        assert result.exit_code == 1
        assert "is the input file" in result.stderr


def test_a_folder_in_place_of_an_output_is_an_error(folder, run):
    Path("out/a.png").mkdir(parents=True)
    result = run("in", "-o", "out", "--skip-existing")
    assert result.exit_code == 1
    assert "error: out/a.png: exists already" in result.stderr


def test_newer(folder, run):
    run("in", "-o", "out")
    before = contents(folder / "out")
    Image.fromarray(smooth_image(seed=1)).save("in/b.png")
    later = Path("out/b.png").stat().st_mtime_ns + 10**9
    os.utime("in/b.png", ns=(later, later))
    done = lines(run("in", "-o", "out", "--newer", "--json"))
    assert done[0]["skipped"] == "the output is newer"
    assert done[1]["output"] == "out/b.png"
    after = contents(folder / "out")
    assert after["a.png"] == before["a.png"] and after["b.png"] != before["b.png"]


def test_newer_at_the_same_time_is_up_to_date(folder, run):
    """As make has it."""
    run("in", "-o", "out")
    status = Path("out/a.png").stat()
    os.utime("in/a.png", ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert "skipped" in lines(run("in", "-o", "out", "--newer", "--json"))[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["-o", "out", "--overwrite", "--skip-existing"],
            "--overwrite and --skip-existing exclude each other",
        ),
        (["-o", "out", "--skip-existing", "--newer"], "--skip-existing and --newer exclude each other"),
        (["-o", "-", "--skip-existing"], "--skip-existing is for files, and -o - writes to stdout"),
        (["-o", "-", "--newer"], "--newer is for files"),
        ([], "no output: name a file or folder with -o, or .* --suffix -large"),
        (["-o", "out", "--suffix", "a/b"], "contains a path separator"),
        (["-o", "out.png", "--suffix", "-x2"], "the suffix is for outputs in a folder, and out.png is none"),
        (["-o", "-", "--suffix", "-x2"], "the suffix is for outputs in a folder, and stdout is none"),
        (["-o", "gone"], "gone: is a link to a folder that does not exist"),
    ],
)
def test_wrong_usage(folder, run, arguments, words):
    Path("gone").symlink_to("nowhere")
    before = files(folder)
    result = run("in/a.png", *arguments)
    assert result.exit_code == 2
    assert re.match(f"error: .*{words}", result.stderr)
    assert files(folder) == before


def test_an_empty_suffix(folder, run):
    assert run("in/a.png", "--suffix", "").exit_code == 2


def test_suffix_beside_the_inputs(folder, run):
    assert run("in", "--suffix", "-large", "--recursive").exit_code == 0
    expected = ["a-large.png", "a.png", "b-large.png", "b.png", "deep/c-large.jpg", "deep/c.jpg"]
    assert files(folder / "in") == expected


@pytest.mark.parametrize("output", [["-o", "in"], []])
def test_a_second_run_does_not_upscale_the_results(folder, run, output):
    run("in", *output, "--suffix", "-large")
    before = contents(folder / "in")
    Image.fromarray(smooth_image()).save("in/new.png")
    result = run("in", *output, "--suffix", "-large", "--skip-existing", "-v")
    assert result.exit_code == 0
    assert "left out 2 inputs that are outputs of others, such as in/a-large.png" in result.stderr
    after = contents(folder / "in")
    assert sorted(set(after) - set(before)) == ["new-large.png", "new.png"]


def test_results_that_a_pattern_of_the_shell_names_are_left_out(folder, run):
    run("in/a.png", "--suffix", "-large")
    result = run("in/a.png", "in/a-large.png", "--suffix", "-large", "--skip-existing")
    assert result.exit_code == 0
    assert "note: left out 1 input that is" in result.stderr.replace("are outputs", "is")
    assert files(folder / "in") == ["a-large.png", "a.png", "b.png", "deep/c.jpg"]


def test_suffix_in_another_folder(folder, run):
    assert run("in", "-o", "out", "--suffix", "_x2").exit_code == 0
    assert files(folder / "out") == ["a_x2.png", "b_x2.png"]


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("photo", "photo-x.png"),
        ("a.b.jpeg", "a.b-x.jpeg"),
        ("scan.gif.png", "scan.gif-x.png"),
        (".hidden.png", ".hidden-x.png"),
        ("two\nlines.png", "two\nlines-x.png"),
        ("\N{CAT FACE} \N{ARABIC LETTER BEH}.png", "\N{CAT FACE} \N{ARABIC LETTER BEH}-x.png"),
        ("-dash.png", "-dash-x.png"),
    ],
)
def test_names_with_a_suffix(folder, run, name, output):
    Image.fromarray(smooth_image()).save(folder / name, "PNG")
    assert run("--suffix", "-x", "--", name).exit_code == 0
    assert Path(output).is_file()


def test_a_name_that_the_suffix_makes_too_long(folder, run):
    Image.fromarray(smooth_image()).save("in/" + "n" * 250 + ".png")
    result = run("in", "--suffix", "-large")
    assert result.exit_code == 1
    assert "File name too long" in result.stderr
    assert {"a-large.png", "b-large.png"} <= set(files(folder / "in"))


def test_two_inputs_with_one_output(folder, run):
    Path("in/deep/a.png").write_bytes(Path("in/a.png").read_bytes())
    result = run("in/a.png", "in/deep/a.png", "-o", "out", "--suffix", "-x")
    assert result.exit_code == 2
    assert "would both become out/a-x.png" in result.stderr
    result = run("in/a.png", "in/a.png", "--suffix", "-x")
    assert result.exit_code == 2
    assert "in/a.png: is given twice" in result.stderr


def test_a_subfolder_that_cannot_be_read(folder, run):
    """Its path is longer than the system allows, so that it cannot be listed, even by root."""
    here = Path.cwd()
    os.chdir("in/deep")
    for _ in range(17):
        Path("d" * 250).mkdir()
        os.chdir("d" * 250)
    os.chdir(here)
    result = run("in", "-o", "out", "--recursive")
    assert result.exit_code == 1
    assert "the folder cannot be read (File name too long)" in result.stderr
    assert files(folder / "out") == ["a.png", "b.png", "deep/c.jpg"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_names_with_control_characters(folder, run):
    """A terminal would obey them, and each message is one line."""
    source = Path("in/a\nb\x1b[31m.png")
    source.write_bytes(Path("in/a.png").read_bytes())
    Path("in/x\ny.png").write_bytes(b"damaged")
    first = run("in", "-o", "out", "-v")
    again = run("in", "-o", "out", "-v", "--skip-existing")
    for result in (first, again):
        assert "\x1b" not in result.stderr
        assert r"error: in/x\ny.png: " in result.stderr
    assert r"in/a\nb\x1b[31m.png -> out/a\nb\x1b[31m.png: " in first.stderr
    assert r"in/a\nb\x1b[31m.png: skipped" in again.stderr


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_pipes_in_a_folder_do_not_block(folder, run, options):
    """Opening them would wait for a writer. In a folder they are left out, by name they are errors."""
    for name in ("pipe.png", "pipe.ts", "pipe.gif"):
        os.mkfifo(f"in/{name}")
    command = [sys.executable, "-m", "subpixel", "upscale", "--engine", "numpy", "-o", "out", *options, "in"]
    done = subprocess.run([*command, "-v"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0
    assert "skipped 3 files without" in done.stderr
    named = [*command, "in/pipe.png", "in/pipe.gif", *["in/pipe.ts"] * bool(options)]
    done = subprocess.run(named, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    for name in named[len(command) :]:
        assert f"error: {name}: is a pipe" in done.stderr


SLOWLY = """
import time
from subpixel.engines.numpy_engine import NumpyEngine
def run(*arguments, run=NumpyEngine.run_samples):
    time.sleep(0.2)
    return run(*arguments)
NumpyEngine.run_samples = run
from subpixel.__main__ import main
main()
"""
"""The command, whose images take so long that it is still at work when a signal comes."""


def command(model, *arguments, program=("-m", "subpixel")):
    return [sys.executable, *program, "upscale", "--model", model, "--engine", "numpy", *arguments]


def wait_for(condition, process):
    for _ in range(1200):
        if condition():
            return
        assert process.poll() is None, "the command ended early"
        time.sleep(0.05)
    raise AssertionError("nothing happened")


@pytest.fixture
def many(folder):
    """A folder of twelve images, and a video after them."""
    Path("many").mkdir()
    image = smooth_image(300, 400)
    for number in range(12):
        Image.fromarray(np.roll(image, number, axis=1)).save(f"many/{number:02}.png")
    write(Path("many/z.mp4"), make_frames(8))
    return folder / "many"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_folder_goes_on(many, folder, model, how):
    subprocess.run(command(model, "many", "-o", "whole"), check=True)
    slowly = command(model, "many", "-o", "out", program=("-c", SLOWLY))
    process = subprocess.Popen(slowly, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len([*Path().glob("out/[0-9]*.png")]) >= 3, process)
    process.send_signal(how)
    _, message = process.communicate(timeout=300)
    done = [*Path().glob("out/[0-9]*.png")]
    assert 3 <= len(done) < 12
    if how == signal.SIGKILL:
        assert process.returncode == -how
    else:
        assert process.returncode == 128 + how, message
        counted = re.fullmatch(
            r"interrupted; (\d+) of 13 files are done, and the same command with --skip-existing .*\n",
            message,
        )
        assert int(counted[1]) == len(done)
        assert len(files(folder / "out")) == len(done)  # nothing partial
    times = {path: path.stat().st_mtime_ns for path in done}
    finished = subprocess.run(
        command(model, "many", "-o", "out", "--skip-existing"), capture_output=True, text=True, check=True
    )
    assert f"{13 - len(done)} of 13 files done" in finished.stderr
    assert f"{len(done)} skipped" in finished.stderr
    assert times == {path: path.stat().st_mtime_ns for path in done}
    assert contents(folder / "out") == contents(folder / "whole")


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_jobs_change_nothing_in_the_results(many, folder, run, at_once):
    Path("many/05.png").write_bytes(b"broken")
    result = run("many", "-o", f"out{at_once}", "--jobs", at_once, "--json")
    assert [line["input"] for line in lines(result)] == sorted(map(str, Path("many").iterdir()))
    assert "error" in lines(result)[5]
    run("many", "-o", "one", "--jobs", 1, "--threads", 1)
    assert contents(folder / f"out{at_once}") == contents(folder / "one")


def test_a_budget_of_memory():
    budget, order = MemoryBudget(100), []
    entered, leave = threading.Event(), threading.Event()

    def work(name, mib):
        with budget.reserve(mib):
            order.append(name)
            entered.set()
            leave.wait(10)

    first = threading.Thread(target=work, args=("large", 1000))
    first.start()
    assert entered.wait(10)
    second = threading.Thread(target=work, args=("small", 1))
    second.start()
    time.sleep(0.1)
    assert order == ["large"]
    leave.set()
    first.join(10)
    second.join(10)
    assert order == ["large", "small"]


@pytest.mark.parametrize("written", [False, True])
def test_a_skipped_video_with_the_folder_of_a_job(folder, run, written):
    """Either the job is unfinished, which is reported, or only its folder is left, which is removed."""
    write(Path("in/v.mkv"), make_frames(2))
    output = Path("out/v.mkv")
    output.parent.mkdir()
    output.write_bytes(b"an earlier result")
    segments = SegmentFolder(LocalStorage(Path("out/.v.mkv.subpixel")), {})
    if written:
        record_output(segments, output)
    segments.close()
    result = run("in/v.mkv", "-o", "out/", "--skip-existing")
    assert (result.exit_code, output.read_bytes()) == (0, b"an earlier result")
    assert ("--overwrite resumes that" in result.stderr) is not written
    assert Path("out/.v.mkv.subpixel").exists() is not written


def test_an_unfinished_video_resumes(folder, run):
    """Its output does not exist, so it is not skipped."""
    write(Path("in/v.mkv"), make_frames(2))
    SegmentFolder(LocalStorage(Path("out/.v.mkv.subpixel")), {}).close()
    result = run("in", "-o", "out", "--skip-existing", "--json")
    assert result.exit_code == 0
    assert lines(result)[-1]["frames"] > 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "b.png", "v.mkv"]
