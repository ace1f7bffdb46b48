from pathlib import Path

import pytest

from subpixel.batch import plan
from subpixel.errors import OutputError


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png", "deep/c.tif", "deep/er/d.webp", ".git/e.png"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def names(result, folder):
    return [(str(source.relative_to(folder)), str(target)) for source, target in result.jobs]


def test_one_file_into_a_file(pictures):
    assert plan([pictures / "b.png"], "new.jpg").jobs[0][1].name == "new.jpg"


@pytest.mark.parametrize("output", ["out", "out/", "out.png/"])
def test_one_file_into_a_folder(pictures, tmp_path, output):
    ((_, target),) = plan([pictures / "b.png"], str(tmp_path / output) + "/" * output.endswith("/")).jobs
    assert target == tmp_path / output / "b.png"


def test_one_file_into_an_existing_folder_named_like_a_file(pictures, tmp_path):
    (tmp_path / "out.png").mkdir()
    assert plan([pictures / "b.png"], str(tmp_path / "out.png")).jobs[0][1] == tmp_path / "out.png" / "b.png"


def test_a_folder(pictures):
    result = plan([pictures], "out")
    assert names(result, pictures) == [("a.JPG", "out/a.JPG"), ("b.png", "out/b.png")]
    assert result.skipped == 1


def test_a_tree(pictures):
    expected = ["a.JPG", "b.png", "deep/c.tif", "deep/er/d.webp"]
    assert names(plan([pictures], "out", recursive=True), pictures) == [(n, f"out/{n}") for n in expected]


def test_an_output_folder_inside_the_input_is_no_input(pictures):
    result = plan([pictures], str(pictures / "deep"), recursive=True)
    assert [source.name for source, _ in result.jobs] == ["a.JPG", "b.png"]
    (pictures / "link").symlink_to(pictures / "deep")
    assert len(plan([pictures], str(pictures / "link"), recursive=True).jobs) == 2


def test_links_in_a_circle_end(pictures):
    (pictures / "deep" / "up").symlink_to(pictures)
    assert len(plan([pictures], "out", recursive=True).jobs) == 4


def test_files_of_any_name_when_they_are_named(pictures):
    result = plan([pictures / "b.png", pictures / "notes.txt"], "out")
    assert [target.name for _, target in result.jobs] == ["b.png", "notes.txt.png"]


def test_unknown_extension(pictures):
    with pytest.raises(OutputError, match=r"'\.gif'; known: \.png"):
        plan([pictures / "b.png"], "out.gif")


@pytest.mark.parametrize(
    ("inputs", "output", "words"),
    [
        (["."], "b.png", "is a file"),
        (["b.png"], "notes", "does not tell the format"),
        (["a.JPG", "b.png"], "new.png", "several inputs need a folder"),
        (["deep"], "new.png", "a folder as input needs a folder as output; is this one, end it in"),
        (["deep"], "notes", "is a file; a folder as input needs a folder as output"),
        (["."], ".", "is the input folder itself"),
        (["b.png", "b.png"], "out", "would both become"),
        (["b.png", "deep/b.png"], "out", "would both become"),
    ],
)
def test_what_does_not_fit(pictures, inputs, output, words):
    (pictures / "notes").touch()
    with pytest.raises(ValueError, match=words):
        plan([pictures / name for name in inputs], str(pictures / output))


def test_outputs_without_a_name_or_with_one_that_no_file_has(pictures):
    with pytest.raises(ValueError, match="the output has no name"):
        plan([pictures / "b.png"], "")
    assert plan([pictures / "b.png"], f"{'a' * 300}.png").jobs


def test_stdin_is_no_picture():
    with pytest.raises(ValueError, match=r'"-" stands for a video, and a\.png is a picture'):
        plan([Path("-")], "a.png")


def test_a_link_that_leads_nowhere_is_left_to_whoever_reads_it(pictures):
    """Files that end in .ts are looked into, as they may be programs."""
    (pictures / "film.ts").symlink_to("nowhere")
    assert pictures / "film.ts" in [job.source for job in plan([pictures], "out").jobs]


def test_an_output_that_is_another_input_through_a_link(pictures, tmp_path):
    """With --overwrite it would be gone before its turn came."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.JPG").symlink_to(pictures / "b.png")
    with pytest.raises(ValueError, match=r"a\.JPG: is one of the inputs"):
        plan([pictures], str(tmp_path / "out"))


def test_no_pictures(tmp_path):
    (tmp_path / "in" / "deeper").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"holds no pictures or videos \(\.png.*--recursive"):
        plan([tmp_path / "in"], "out")
