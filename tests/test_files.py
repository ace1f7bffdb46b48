"""Atomic writing of files."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from subpixel import files
from subpixel.errors import OutputError, OutputExists
from subpixel.files import make_folder_of, write_atomically


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "folder" / "out.bin"
    with write_atomically(path) as part:
        part.write_bytes(b"half")
        assert not path.exists()
        part.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"
    assert listing(path.parent) == ["out.bin"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_no_file(tmp_path, error):
    def write():
        with write_atomically(tmp_path / "out.bin") as part:
            part.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert listing(tmp_path) == []


def test_an_existing_file_is_replaced_only_with_overwrite(tmp_path):
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    with pytest.raises(OutputExists, match=r"out\.bin.*--overwrite"), write_atomically(path):
        pytest.fail("the body must not run")
    with write_atomically(path, overwrite=True) as part:
        part.write_bytes(b"new")
    assert path.read_bytes() == b"new"


def test_a_file_that_another_process_creates_is_kept(tmp_path):
    path = tmp_path / "out.bin"

    def write():
        with write_atomically(path) as part:
            part.write_bytes(b"ours")
            path.write_bytes(b"theirs")

    with pytest.raises(OutputExists, match="another process created it"):
        write()
    assert path.read_bytes() == b"theirs"
    assert listing(tmp_path) == ["out.bin"]


def test_permissions_are_kept(tmp_path):
    (tmp_path / "plain").touch()
    path = tmp_path / "out.bin"
    with write_atomically(path):
        pass
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    path.chmod(0o604)
    with write_atomically(path, overwrite=True):
        pass
    assert path.stat().st_mode & 0o777 == 0o604


def test_the_target_of_a_link_is_replaced(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    with write_atomically(tmp_path / "link", overwrite=True) as part:
        part.write_bytes(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_long_names(tmp_path):
    path = tmp_path / ("𝛑" * 62 + ".bin")  # 252 bytes
    with write_atomically(path) as part:
        part.write_bytes(b"x")
    assert path.exists()


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match="cannot write there"),
        write_atomically(tmp_path / "file" / "out.bin"),
    ):
        pytest.fail("the body must not run")


def test_a_folder_that_another_output_removes_before_there_is_a_file_in_it(tmp_path, monkeypatch):
    """Another output failed, for which the folder had been made."""
    create, removals = files._create_locked, [1, 2]

    def create_later(part):
        if removals:
            removals.pop()
            part.parent.rmdir()
            part.parent.parent.rmdir()
        return create(part)

    monkeypatch.setattr(files, "_create_locked", create_later)
    path = tmp_path / "new" / "folder" / "out.bin"
    with write_atomically(path) as part:
        part.write_bytes(b"whole")
    assert path.read_bytes() == b"whole" and not removals


def test_a_folder_that_another_output_removes_while_it_is_made(tmp_path, monkeypatch):
    """`Path.mkdir` found it, and raises because it is not there any more."""
    mkdir, errors = Path.mkdir, [FileExistsError()]

    def mkdir_later(*arguments, **options):
        if errors:
            raise errors.pop()
        mkdir(*arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir_later)
    make_folder_of(tmp_path / "folder" / "out.bin")
    assert (tmp_path / "folder").is_dir() and not errors


def test_a_killed_process(tmp_path):
    """It leaves a partial file, which the next write to the same path removes; files in use are kept."""
    path = tmp_path / "out.bin"
    code = f"""
        import pathlib, time
        from subpixel.files import write_atomically
        with write_atomically(pathlib.Path({str(path)!r})) as part:
            part.write_bytes(b"half")
            print("ready", flush=True)
            time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        (part,) = listing(tmp_path)
        with write_atomically(path):
            assert part in listing(tmp_path), "the file of a running process was removed"
        path.unlink()
        process.send_signal(signal.SIGKILL)
    assert listing(tmp_path) == [part]
    assert part.startswith(".out.bin.")
    assert part.endswith(".part")
    with write_atomically(path) as fresh:
        assert listing(tmp_path) == [fresh.name]
    assert listing(tmp_path) == ["out.bin"]


def test_files_with_similar_names_are_kept(tmp_path):
    for name in (".out.bin.backup.part", ".out.bin.part", "out.bin.0123456789abcdef.part"):
        (tmp_path / name).write_text("precious")
    before = listing(tmp_path)
    with write_atomically(tmp_path / "out.bin"):
        pass
    assert listing(tmp_path) == sorted([*before, "out.bin"])


@pytest.mark.skipif(os.name != "posix", reason="needs resource limits")
def test_a_full_disk(tmp_path):
    code = f"""
        import pathlib, resource
        from subpixel.errors import OutputError
        from subpixel.files import write_atomically
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            with write_atomically(pathlib.Path({str(tmp_path / "out.bin")!r})) as part:
                part.write_bytes(bytes(2000))
        except OutputError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert "out.bin: could not be written" in done.stdout
    assert listing(tmp_path) == []


def test_devices_are_not_replaced() -> None:
    with (
        pytest.raises(OutputError, match="/dev/null: is not a regular file"),
        write_atomically(Path("/dev/null"), overwrite=True),
    ):
        raise AssertionError("not reached")


def test_a_kill_after_the_rename_leaves_one_file(tmp_path):
    """Flushing the folder may take long; the temporary name is gone by then."""
    script = f"""if True:
        import os, pathlib, subpixel.files as files
        files.flush_folder = lambda folder: os.kill(os.getpid(), 9)
        with files.write_atomically(pathlib.Path({str(tmp_path / "out.bin")!r})) as part:
            part.write_bytes(b"whole")
    """
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert listing(tmp_path) == ["out.bin"]
