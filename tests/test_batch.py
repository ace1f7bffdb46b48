"""The outputs of a run over files and folders."""

from pathlib import Path

import pytest

from subpixel.batch import plan_batch
from subpixel.errors import OutputError


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png", "deep/c.tif", "deep/er/d.webp", ".git/e.png"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def names(plan, folder):
    return [(str(source.relative_to(folder)), str(target)) for source, target in plan.jobs]


def test_one_file_to_a_file(images):
    assert plan_batch([images / "b.png"], "new.jpg").jobs[0].output.name == "new.jpg"


@pytest.mark.parametrize("output", ["out", "out/", "out.png/"])
def test_one_file_to_a_folder(images, tmp_path, output):
    slash = "/" * output.endswith("/")
    (job,) = plan_batch([images / "b.png"], f"{tmp_path / output}{slash}").jobs
    assert job.output == tmp_path / output / "b.png"


def test_one_file_to_an_existing_folder_with_an_extension(images, tmp_path):
    folder = tmp_path / "out.png"
    folder.mkdir()
    assert plan_batch([images / "b.png"], str(folder)).jobs[0].output == folder / "b.png"


def test_a_folder(images):
    plan = plan_batch([images], "out")
    assert names(plan, images) == [("a.JPG", "out/a.JPG"), ("b.png", "out/b.png")]
    assert plan.skipped == 1


def test_recursive_keeps_subfolders(images):
    plan = plan_batch([images], "out", recursive=True)
    expected = ["a.JPG", "b.png", "deep/c.tif", "deep/er/d.webp"]
    assert names(plan, images) == [(name, f"out/{name}") for name in expected]


def test_an_output_folder_inside_the_input_is_not_an_input(images):
    plan = plan_batch([images], str(images / "deep"), recursive=True)
    assert [job.source.name for job in plan.jobs] == ["a.JPG", "b.png"]
    (images / "link").symlink_to(images / "deep")
    assert len(plan_batch([images], str(images / "link"), recursive=True).jobs) == 2


def test_circular_links_end(images):
    (images / "deep" / "up").symlink_to(images)
    assert len(plan_batch([images], "out", recursive=True).jobs) == 4


def test_a_named_file_may_have_any_extension(images):
    plan = plan_batch([images / "b.png", images / "notes.txt"], "out")
    assert [job.output.name for job in plan.jobs] == ["b.png", "notes.txt.png"]


def test_an_unknown_output_extension(images):
    with pytest.raises(OutputError, match=r"'\.psd'.*: \.png"):
        plan_batch([images / "b.png"], "out.psd")


@pytest.mark.parametrize(
    ("inputs", "output", "words"),
    [
        (["."], "b.png", "is a file"),
        (["b.png"], "notes", "has no extension"),
        (["a.JPG", "b.png"], "new.png", "several inputs need a folder"),
        (["deep"], "new.png", "an input folder needs an output folder; .* end its name in"),
        (["deep"], "notes", "is a file; an input folder needs an output folder"),
        (["."], ".", "is the input folder"),
        (["b.png", "b.png"], "out", r"b\.png: is given twice"),
        (["b.png", "deep/../b.png"], "out", r"b\.png: is given twice"),
        ([".", "b.png"], "out", r"b\.png: is given twice"),
        (["b.png", "deep/b.png"], "out", "would both become"),
    ],
)
def test_inputs_and_output_that_do_not_match(images, inputs, output, words):
    (images / "notes").touch()
    with pytest.raises(ValueError, match=words):
        plan_batch([images / name for name in inputs], str(images / output))


def test_empty_and_overlong_output_names(images):
    with pytest.raises(ValueError, match="output name is empty"):
        plan_batch([images / "b.png"], "")
    # The writer reports a name that is too long.
    assert plan_batch([images / "b.png"], f"{'a' * 300}.png").jobs


def test_stdin_is_not_an_image():
    with pytest.raises(ValueError, match=r'"-" is a video on stdin, and a\.png is an image'):
        plan_batch([Path("-")], "a.png")


def test_a_dangling_link_is_left_to_the_reader(images):
    """Files that end in .ts are opened, as they may be TypeScript."""
    (images / "clip.ts").symlink_to("nowhere")
    assert images / "clip.ts" in [job.source for job in plan_batch([images], "out").jobs]


def test_a_link_to_itself_is_left_to_the_reader(images):
    (images / "loop.png").symlink_to("loop.png")
    assert images / "loop.png" in [job.source for job in plan_batch([images], "out").jobs]
    assert plan_batch([images / "b.png"], str(images / "loop.png")).jobs


def test_an_output_that_is_another_input_through_a_link(images, tmp_path):
    """With --overwrite, the input would be replaced before it is read."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.JPG").symlink_to(images / "b.png")
    with pytest.raises(ValueError, match=r"a\.JPG: is one of the inputs"):
        plan_batch([images], str(tmp_path / "out"))


def test_a_folder_without_images(tmp_path):
    (tmp_path / "in" / "deeper").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"contains no images or videos \(\.png.*--recursive"):
        plan_batch([tmp_path / "in"], "out")
