"""The viewer of `subpixel serve` in a real browser, and the page on small screens and for screen readers."""

import io

import numpy as np
import pytest
from PIL import Image

from image_files import smooth_image
from video_files import make_frames, write
from web_pages import WAIT_MS, press, reaches

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
expect.set_options(timeout=WAIT_MS)


@pytest.fixture(scope="module")
def jobs(server, tmp_path_factory):
    """Finished jobs, by name: a rotated image, one with transparency, an animation, a video, a failure."""
    folder = tmp_path_factory.mktemp("files")
    turned = Image.Exif()
    turned[0x112] = 6
    image = smooth_image(60, 90)
    Image.fromarray(image).save(folder / "photo.jpg", quality=90, exif=turned)
    clear = np.dstack([image, np.where(np.arange(90) < 45, 0, 255)[None].repeat(60, 0)]).astype(np.uint8)
    Image.fromarray(clear).save(folder / "clear.png")
    frames = [Image.fromarray(np.roll(image, 9 * step, 1)) for step in range(3)]
    frames[0].save(folder / "dance.gif", save_all=True, append_images=frames[1:], duration=100)
    write(folder / "film.mp4", make_frames(25))
    (folder / "broken.png").write_bytes(b"not an image")
    ids = {path.name: server.submit(path)["id"] for path in sorted(folder.iterdir())}
    return {name: server.wait(id) for name, id in ids.items()}


@pytest.fixture
def opened(server, jobs, open_page):
    """Opens the page, and the viewer of a file."""

    def opened(name="", **options):
        options = {"viewport": {"width": 1280, "height": 900}, **options}
        page = open_page(f"http://127.0.0.1:{server.port}/", **options)
        expect(page.locator("li.job")).to_have_count(len(jobs))
        if name:
            press(reaches(page, name, "done"), "Compare")
            ready(page)
        return page

    return opened


def ready(page):
    expect(page.locator("#stage[aria-busy=false]")).to_be_visible()


def box(page, selector):
    return page.locator(selector).bounding_box()


def split(page):
    return int(page.get_attribute("#divider", "aria-valuenow"))


def shown(page, x, y, width, height):
    clip = {"x": x, "y": y, "width": width, "height": height}
    return np.asarray(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB"))


def samples(server, job, link):
    data = server.request("GET", job["links"][link]).body
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_the_divider_moves_by_pointer_and_keys(opened):
    page = opened("photo.jpg")
    assert split(page) == 50
    handle = box(page, "#divider .handle")
    x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 60, y, steps=3)
    page.mouse.up()
    assert box(page, "#divider .handle")["x"] == pytest.approx(handle["x"] - 60, abs=1.5)
    page.focus("#divider")
    for key, expected in (("Home", 0), ("ArrowRight", 1), ("Shift+ArrowRight", 11), ("End", 100)):
        page.keyboard.press(key)
        assert split(page) == expected


@pytest.mark.parametrize("ratio", [1, 2])
def test_zoom_to_single_pixels_and_choice_of_the_left_side(opened, server, jobs, ratio):
    page = opened("photo.jpg", device_scale_factor=ratio)
    for _ in range(12):
        page.get_by_role("button", name="Zoom in").click()
        if page.text_content("#zoom") == "1600%":
            break
    job = jobs["photo.jpg"]
    original, result = samples(server, job, "original"), samples(server, job, "view")
    assert original.shape == (90, 60, 3) and result.shape == (180, 120, 3)
    for choice, image in (("original", original), ("bicubic", samples(server, job, "bicubic"))):
        page.select_option("#left", choice)
        ready(page)
        compare_pixels(page, image, "left", ratio)
    compare_pixels(page, result, "right", ratio)


def compare_pixels(page, image, side, ratio):
    """Compare a part of a side, which shows an image at 16 screen pixels for each of the result, 120 wide."""
    corner, stage = box(page, f"#pane-{side} img"), box(page, "#stage")
    for axis in "xy":  # Chromium draws the stage on whole pixels of CSS
        corner[axis] += np.floor(stage[axis] + 0.5) - stage[axis]
    x = round(stage["x"] + stage["width"] / 2) + (-200 if side == "left" else 40)
    y = round(stage["y"]) + 40
    pixel = 16 * 120 / image.shape[1]
    columns, rows = (
        ((np.arange(100 * ratio) + 0.5 + (start - corner[axis]) * ratio) // pixel).astype(int)
        for axis, start in (("x", x), ("y", y))
    )
    np.testing.assert_array_equal(shown(page, x, y, 100, 100), image[rows][:, columns])


def test_transparency_shows_a_checkerboard(opened):
    page = opened("clear.png")
    image = box(page, "#pane-left img")
    colors = {tuple(color) for color in shown(page, image["x"] + 4, image["y"] + 100, 60, 60).reshape(-1, 3)}
    assert {(201, 201, 201), (255, 255, 255)} <= colors


def test_an_animation_has_no_bicubic_side(opened, jobs):
    page = opened("photo.jpg")
    page.select_option("#left", "bicubic")
    ready(page)
    page.keyboard.press("Escape")
    press(reaches(page, "dance.gif", "done"), "Compare")
    ready(page)
    assert page.input_value("#left") == "original"
    assert page.locator("#left option[value=bicubic]").is_disabled()
    assert page.locator(".pane img").count() == 2


def test_the_viewer_closes_when_its_file_is_removed(opened, server, jobs):
    page = opened()
    id = server.submit(server.result(jobs["clear.png"]["id"]), "gone.png")["id"]
    press(reaches(page, "gone.png", "done"), "Compare")
    ready(page)
    server.request("DELETE", f"/api/jobs/{id}")
    expect(page.locator("#viewer")).to_be_hidden()


def test_many_files(opened, server):
    page = opened()
    # Thumbnails load when they come into view, perhaps of a file that is removed at this moment.
    page.expected_faults.append("404")
    small = smooth_image(8, 8)
    stream = io.BytesIO()
    Image.fromarray(small).save(stream, "png")
    ids = [server.submit(stream.getvalue(), f"{number}.png")["id"] for number in range(60)]
    for id in ids:
        server.wait(id)
    expect(page.locator("li.job[data-state=done]")).to_have_count(64)
    for id in ids:
        server.request("DELETE", f"/api/jobs/{id}")
    expect(page.locator("li.job")).to_have_count(5)


@pytest.mark.parametrize(
    ("name", "width", "scheme"),
    [("", 1280, "light"), ("", 320, "dark"), ("photo.jpg", 390, "light"), ("film.mp4", 1280, "dark")],
)
def test_widths_schemes_and_accessibility(opened, name, width, scheme):
    page = opened(
        name, viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce"
    )
    page.evaluate("document.getElementById('more').open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    found = axe.Axe().run(page).response["violations"]
    faults = [(fault["id"], fault["impact"], [node["target"] for node in fault["nodes"]]) for fault in found]
    assert not [fault for fault in faults if fault[1] in ("serious", "critical")], faults


def test_everything_is_reached_by_the_tab_key(opened):
    page = opened("photo.jpg")
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert reached == ["divider", "left", "fit-view", "actual", "zoom-out", "zoom-in"]
