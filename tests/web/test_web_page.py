"""The page of `subpixel serve` in a real browser: files come in, and results go out."""

import re
import signal
import zipfile

import numpy as np
import pytest
from PIL import Image

from image_files import smooth_image
from video_files import make_frames, write
from web_pages import WAIT_MS, choose, download, drop, paste, press, reaches, row
from web_server import command, running

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
expect.set_options(timeout=WAIT_MS)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    Image.fromarray(smooth_image(60, 80)).save(folder / "drawing.png")
    orientation = Image.Exif()
    orientation[0x112] = 6  # to be turned by 90 degrees
    Image.fromarray(smooth_image(48, 96)).save(folder / "photo.jpg", quality=60, exif=orientation)
    write(folder / "film.mp4", make_frames(50, 96, 64), sound="aac")
    write(folder / "long.mp4", make_frames(1200, 192, 128))
    (folder / "broken.png").write_bytes(np.random.default_rng(0).bytes(9_000_000))
    return folder


@pytest.fixture
def page(server, open_page):
    """The page of a server without jobs."""
    for job in server.request("GET", "/api/jobs").json()["jobs"]:
        server.request("DELETE", f"/api/jobs/{job['id']}")
    page = open_page(f"http://127.0.0.1:{server.port}/", viewport={"width": 1280, "height": 900})
    expect(page.locator("#version")).to_contain_text("Subpixel")
    return page


def test_results_are_those_of_the_command(page, files, tmp_path):
    drop(page, files / "drawing.png")
    page.locator("label", has_text="3×").click()
    choose(page, files / "photo.jpg")
    page.locator("label", has_text="2×").click()
    choose(page, files / "film.mp4")
    paste(page, (files / "drawing.png").read_bytes())
    for name, result, options in (
        ("drawing.png", "drawing-x2.png", ("-s", "2")),
        ("photo.jpg", "photo-x3.jpg", ("-s", "3")),
        ("film.mp4", "film-x2.mp4", ("-s", "2")),
    ):
        reaches(page, name, "done")
        assert download(page, name) == (result, command(files / name, tmp_path / result, *options))
    expect(row(page, "photo.jpg")).to_contain_text("48 × 96 → 144 × 288")
    expect(row(page, "film.mp4")).to_contain_text("96 × 64 → 192 × 128 · 2 s")
    pasted = page.locator("li.job[data-state=done]", has_text="pasted-")
    expect(pasted).to_contain_text("80 × 60 → 160 × 120")
    with page.expect_download() as started:
        page.get_by_role("link", name="Download all").click()
    with zipfile.ZipFile(started.value.path()) as archive:
        assert len(archive.namelist()) == 4
        assert archive.read("film-x2.mp4") == (tmp_path / "film-x2.mp4").read_bytes()
    page.get_by_role("button", name="Remove finished").click()
    expect(page.locator("li.job")).to_have_count(0)


def test_cancel_retry_reload_and_two_tabs(page, files, server):
    choose(page, files / "long.mp4")
    other = page.context.new_page()
    other.goto(page.url)
    with server.held("long.mp4", page):
        running_row = reaches(other, "long.mp4", "running")
        expect(running_row).to_contain_text(re.compile("frames a second, .* left"))
        assert running_row.locator(".buttons button").all_text_contents() == ["Preview", "Cancel"]
        press(running_row, "Cancel")
        reaches(other, "long.mp4", "cancelled")
    assert other.evaluate("document.activeElement.closest('li.job') !== null")
    press(reaches(page, "long.mp4", "cancelled"), "Try again")
    with server.held("long.mp4", page):
        reaches(other, "long.mp4", "running")
        page.reload()
        expect(reaches(page, "long.mp4", "running")).to_contain_text("192 × 128 → 384 × 256")
        press(row(page, "long.mp4"), "Cancel")
        reaches(page, "long.mp4", "cancelled")
    press(reaches(page, "long.mp4", "cancelled"), "Remove")
    for each in (page, other):
        expect(row(each, "long.mp4")).to_have_count(0)


def test_the_preview_is_ready_before_the_video(page, files, server):
    choose(page, files / "long.mp4")
    with server.held("long.mp4", page):
        look_at_the_preview(page)
        press(row(page, "long.mp4"), "Cancel")
        reaches(page, "long.mp4", "cancelled")


def look_at_the_preview(page):
    press(row(page, "long.mp4"), "Preview")
    sides = page.locator(".pane video")
    expect(sides).to_have_count(2)
    assert row(page, "long.mp4").get_attribute("data-state") in ("waiting", "running")
    sizes = [video.evaluate("(video) => [video.videoWidth, video.videoHeight]") for video in sides.all()]
    assert sizes == [[192, 128], [384, 256]]
    page.get_by_role("button", name="Pause").click()
    page.locator("#seek").fill("1.2")
    expect(page.locator("#stage[aria-busy=false]")).to_be_visible()
    assert [video.evaluate("(video) => video.currentTime") for video in sides.all()] == [1.2, 1.2]
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_an_upload_that_breaks_off_goes_on_and_a_broken_file_says_so(page, files, server):
    broken = []
    page.expected_faults.append("ERR_CONNECTION_RESET")

    def cut(route):
        if route.request.headers.get("upload-offset", "0") != "0" and not broken:
            broken.append(route.request.url)
            route.abort("connectionreset")
        else:
            route.continue_()

    page.context.route("**/api/uploads/*", cut)
    choose(page, files / "broken.png")
    failed = reaches(page, "broken.png", "failed")
    assert broken
    (stored,) = server.data.glob(f"jobs/{broken[0].rpartition('/')[2]}/input*")
    assert stored.read_bytes() == (files / "broken.png").read_bytes()
    text = re.compile("^Is neither an image nor a video .* save it as PNG or MP4$")
    expect(failed.locator(".state")).to_have_text(text)


def test_encodings_and_file_types_fit_together(page, files, server, tmp_path):
    encoding, container = page.locator("#codec"), page.locator("#container")
    container.select_option("mov")
    encoding.select_option("libsvtav1")
    assert container.input_value() == ""
    assert container.locator("option[value=mov]").is_disabled()
    encoding.select_option("ffv1")
    film = tmp_path / "film.mov"
    write(film, make_frames(5))
    choose(page, film)
    expect(reaches(page, "film.mov", "done")).to_contain_text("Ready")
    assert download(page, "film.mov")[0] == "film-x2.mkv"
    encoding.select_option("")
    container.select_option("webm")
    expect(page.locator("#video-note")).to_contain_text("AAC")
    choose(page, files / "film.mp4")
    press(reaches(page, "film.mp4", "failed"), "Leave it out")
    reaches(page, "film.mp4", "done")
    assert download(page, "film.mp4")[0] == "film-x2.webm"


def test_a_server_that_is_killed_and_started_again(chromium, files, tmp_path):
    with running(tmp_path / "data") as server:
        context = chromium.new_context()
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{server.port}/")
        choose(page, files / "long.mp4")
        with server.held("long.mp4", page):
            expect(reaches(page, "long.mp4", "running")).to_contain_text("frames a second")

        killed = []

        def kill(route):
            if route.request.headers.get("upload-offset", "0") != "0" and not killed:
                killed.append(True)
                server.process.send_signal(signal.SIGKILL)
                server.process.communicate()
            route.continue_()

        context.route("**/api/uploads/*", kill)
        choose(page, files / "broken.png")
        expect(page.locator("#offline")).to_be_visible()
        server.options += ("--port", str(server.port))
        server.start()
        expect(page.locator("#offline")).to_be_hidden()
        reaches(page, "broken.png", "failed")
        reaches(page, "long.mp4", "done")
        name, data = download(page, "long.mp4")
        assert name == "long-x2.mp4"
        assert data == command(files / "long.mp4", tmp_path / "long-x2.mp4", "-s", "2")
        context.close()
