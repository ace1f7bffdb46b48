"""Pages of `subpixel compare` in a real browser."""

import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image

import subpixel
from image_files import smooth_image
from pages import description, samples
from video_files import make_frames, write

DIVIDER = "#divider"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def page_of_image(folder):
    """400 x 300 pixels from 200 x 150, with noise, so that results differ; and a reference."""
    rng = np.random.default_rng(3)
    image = smooth_image(300, 400) // 2 + rng.integers(0, 128, (300, 400, 1), np.uint8)
    small = image[::2, ::2].copy()
    Image.fromarray(image).save(folder / "hr.png")
    Image.fromarray(small).save(folder / "photo.png")
    target = folder / "image.html"
    subpixel.compare(
        folder / "photo.png", target, models=["fast"], reference=folder / "hr.png", engine="numpy"
    )
    return target


@pytest.fixture(scope="module")
def page_of_video(folder):
    clip = folder / "clip.mp4"
    write(clip, make_frames(30))
    target = folder / "video.html"
    subpixel.compare(clip, target, models=["fast", "default"], frames=3, engine="numpy")
    return target


@pytest.fixture
def opened(open_page):
    """Opens a page and waits until both sides are decoded."""

    def opened(path, **options):
        page = open_page(path.as_uri(), **options)
        shown(page)
        return page

    return opened


def shown(page):
    page.wait_for_selector("#stage[aria-busy=false]")
    page.evaluate("new Promise(requestAnimationFrame)")


def screenshot(page):
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))


def box(page, selector):
    return page.locator(selector).bounding_box()


def split(page):
    return int(page.get_attribute(DIVIDER, "aria-valuenow"))


def compare_pixels(page, image, side, zoom):
    """Compare what shows of an image on one side of the divider, at a whole zoom; how many pixels of it."""
    page.evaluate("scrollTo(0, 0)")
    stage, divider = box(page, "#stage"), box(page, DIVIDER)
    shot = screenshot(page)
    left, top, _ = position(page)
    assert left == round(left) and top == round(top)
    large = image.repeat(zoom, 0).repeat(zoom, 1)
    first, last = stage["x"] + 12, stage["x"] + stage["width"] - 12  # without the round corners
    middle = divider["x"] + divider["width"] / 2
    first, last = (first, middle - 32) if side == "left" else (middle + 32, last)  # and the handle
    x0, x1 = (round(min(max(x, left), left + large.shape[1])) for x in (first, last))
    above, below = stage["y"] + 12, min(stage["y"] + stage["height"], len(shot)) - 12
    y0, y1 = (round(min(max(y, top), top + len(large))) for y in (above, below))
    part = large[y0 - round(top) : y1 - round(top), x0 - round(left) : x1 - round(left)]
    np.testing.assert_array_equal(shot[y0:y1, x0:x1], part)
    return part.size // 3 // zoom**2


def position(page):
    """Where the left image is, and how wide, on the screen."""
    rectangle = page.evaluate("document.querySelector('.pane img').getBoundingClientRect().toJSON()")
    return [rectangle["x"], rectangle["y"], rectangle["width"]]


def test_pixels_are_the_samples_at_100_percent(opened, page_of_image):
    page = opened(page_of_image)
    page.click("#actual")
    assert page.text_content("#zoom") == "100%"
    for side, view in (("left", "method-0"), ("right", "method-1")):
        assert compare_pixels(page, samples(page_of_image, view), side, 1) > 20_000


def test_magnified_pixels_are_squares_of_the_samples(opened, page_of_image):
    page = opened(page_of_image)
    page.select_option("#left", "original")
    page.select_option("#right", "reference")
    shown(page)
    page.click("#actual")
    for _ in range(5):
        page.click("#in")
    assert page.text_content("#zoom") == "800%"
    # One pixel of the input is as large as 2 x 2 of the result.
    assert compare_pixels(page, samples(page_of_image, "original"), "left", 16) > 300
    assert compare_pixels(page, samples(page_of_image, "reference"), "right", 8) > 1000


def test_the_divider_moves_by_pointer(opened, page_of_image):
    page = opened(page_of_image)
    assert split(page) == 50
    handle, stage = box(page, DIVIDER), box(page, "#stage")
    x, y = handle["x"] + handle["width"] / 2, stage["y"] + 50
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 100, y, steps=4)
    page.mouse.up()
    moved = box(page, DIVIDER)
    assert moved["x"] == pytest.approx(handle["x"] - 100, abs=1.5)
    assert split(page) < 40
    # Where the whole image shows, there is nothing to pan, and dragging anywhere moves it.
    page.mouse.move(stage["x"] + 300, y)
    page.mouse.down()
    page.mouse.move(stage["x"] + 340, y, steps=4)
    page.mouse.up()
    assert box(page, DIVIDER)["x"] == pytest.approx(moved["x"] + 40, abs=1.5)


def test_the_divider_moves_by_keys(opened, page_of_image):
    page = opened(page_of_image)
    page.focus(DIVIDER)
    for key, expected in (
        ("ArrowRight", 51),
        ("Shift+ArrowLeft", 41),
        ("Home", 0),
        ("End", 100),
        ("PageDown", 90),
    ):
        page.keyboard.press(key)
        assert split(page) == expected
    assert page.get_attribute(DIVIDER, "aria-valuetext") == "90% bicubic, 10% fast-x2"


def both_sides_agree(page):
    rectangles = (
        "[...document.querySelectorAll('.pane img')].map((image) => image.getBoundingClientRect().toJSON())"
    )
    first, second = page.evaluate(rectangles)
    return first == pytest.approx(second)


def test_zoom_by_wheel_and_pan_by_drag(opened, page_of_image):
    page = opened(page_of_image)
    page.select_option("#left", "original")
    shown(page)
    stage = box(page, "#stage")
    x, y = stage["x"] + stage["width"] / 2 + 60, stage["y"] + stage["height"] / 2 - 30
    before = position(page)
    page.mouse.move(x, y)
    page.mouse.wheel(0, -600)
    for _ in range(50):  # the page's policy forbids playwright's own way to wait for a condition
        if position(page)[2] > before[2] * 1.5:
            break
        page.wait_for_timeout(50)
    after = position(page)
    factor = after[2] / before[2]
    # What is under the pointer stays there.
    assert (x - after[0]) == pytest.approx((x - before[0]) * factor, abs=2)
    assert (y - after[1]) == pytest.approx((y - before[1]) * factor, abs=2)
    page.mouse.down()
    page.mouse.move(x - 35, y - 30, steps=3)
    page.mouse.up()
    panned = position(page)
    assert panned[:2] == pytest.approx([after[0] - 35, after[1] - 30], abs=2)
    assert both_sides_agree(page)
    page.focus("#stage")
    page.keyboard.press("ArrowRight")
    assert position(page)[0] < panned[0] - 10
    page.keyboard.press("0")
    assert position(page) == pytest.approx(before)


def test_keys_of_the_stage(opened, page_of_image):
    page = opened(page_of_image)
    page.focus("#stage")
    for key, zoom in zip("1++-1-", (100, 200, 300, 200, 100, 100), strict=True):
        page.keyboard.press(key)
        assert page.text_content("#zoom") == f"{zoom}%"
    page.keyboard.press("x")
    shown(page)
    assert page.input_value("#left") == "method-1" and page.input_value("#right") == "method-0"


def test_pinch(opened, page_of_image):
    page = opened(page_of_image, has_touch=True)
    stage = box(page, "#stage")
    x, y = stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2
    before = position(page)[2]
    session = page.context.new_cdp_session(page)

    def touch(kind, *points):
        session.send(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": a, "y": b} for a, b in points]}
        )

    touch("touchStart", (x - 40, y), (x + 40, y))
    for distance in (60, 80, 100, 120):
        touch("touchMove", (x - distance, y), (x + distance, y))
    touch("touchEnd")
    assert position(page)[2] == pytest.approx(before * 3, rel=0.1)
    assert both_sides_agree(page)


def test_choice_of_sides(opened, page_of_image):
    page = opened(page_of_image)
    names = page.locator("#left option").all_text_contents()
    assert names == ["original pixels", "bicubic", "fast-x2", "reference"]
    page.select_option("#right", "reference")
    shown(page)
    assert page.get_attribute("#pane-right img", "alt") == "reference"
    assert "bicubic and reference" in page.text_content("#spots-text")
    page.select_option("#left", "reference")
    shown(page)
    assert page.locator("#spots button").count() == 0
    page.select_option("#left", "original")
    page.click("#swap")
    shown(page)
    assert page.input_value("#left") == "reference"
    assert page.get_attribute("#pane-left img", "alt") == "reference"
    assert "reference on the left" in page.get_attribute("#stage", "aria-label")


def test_spots_jump(opened, page_of_image):
    page = opened(page_of_image)
    spots = description(page_of_image)["stills"][0]["spots"]["method-0 method-1"]
    assert page.locator("#spots button").count() == len(spots) > 2
    for index in (0, 2):
        page.locator("#spots button").nth(index).click()
        x, y, width, height, _ = spots[index]
        left, top, shown_width = position(page)
        zoom = shown_width / 400
        stage = box(page, "#stage")
        spot = (left + x * zoom, top + y * zoom, left + (x + width) * zoom, top + (y + height) * zoom)
        assert spot[0] >= stage["x"] - 1 and spot[2] <= stage["x"] + stage["width"] + 1
        assert spot[1] >= stage["y"] - 1 and spot[3] <= stage["y"] + stage["height"] + 1
        assert zoom >= 2
    # Thumbnails are parts of both sides.
    pixels = page.evaluate(
        "[...document.querySelectorAll('#spots button:first-of-type')][0].querySelectorAll('canvas')[1]"
        ".getContext('2d').getImageData(0, 0, 4, 4).data"
    )
    x, y = spots[0][:2]
    expected = samples(page_of_image, "method-1")[y : y + 4, x : x + 4]
    found = np.array([pixels[index] for index in range(64)]).reshape(4, 4, 4)[..., :3]
    np.testing.assert_array_equal(found, expected)


def test_values_are_in_the_table(opened, page_of_image):
    page = opened(page_of_image)
    scores = description(page_of_image)["stills"][0]["scores"]["method-0"]
    row = page.locator("#scores tbody tr").first.locator("th, td").all_text_contents()
    assert row == ["bicubic", f"{scores['psnr_db']:.2f}", f"{scores['ssim']:.4f}"]
    assert page.locator("td.best").count() == 2


def test_frames(opened, page_of_video):
    page = opened(page_of_video)
    buttons = page.locator("#frames button")
    assert buttons.count() == 3
    buttons.nth(2).click()
    shown(page)
    assert buttons.nth(2).get_attribute("aria-pressed") == "true"
    assert "Frame 3 of 3" in page.text_content("#status")
    page.click("#actual")
    assert compare_pixels(page, samples(page_of_video, "method-1", 2), "left", 1) > 1000


def test_transparency_shows_a_checkerboard(opened, folder):
    image = smooth_image(60, 80, 4)
    image[..., 3] = 0
    image[20:, :, 3] = 255
    (folder / "clear.png").write_bytes(imagecodecs.png_encode(image))
    subpixel.compare(folder / "clear.png", folder / "clear.html", models=["fast"], engine="numpy")
    page = opened(folder / "clear.html")
    page.click("#actual")
    left, top, _ = position(page)
    shot = screenshot(page)[round(top) : round(top) + 30, round(left) : round(left) + 60]
    assert {tuple(color) for color in shot.reshape(-1, 3)} == {(201, 201, 201), (255, 255, 255)}


@pytest.mark.parametrize(
    ("content", "width", "scheme"),
    [("video", 390, "light"), ("image", 390, "dark"), ("image", 1280, "light")],
)
def test_widths_and_schemes_and_rules_of_accessibility(opened, request, content, width, scheme):
    path = request.getfixturevalue(f"page_of_{content}")
    page = opened(path, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (screenshot(page)[3, 3].mean() < 64) == (scheme == "dark")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    found = axe.Axe().run(page).response["violations"]
    assert not [(fault["id"], [node["target"] for node in fault["nodes"]]) for fault in found]


def test_everything_is_reached_by_the_tab_key(opened, page_of_image):
    page = opened(page_of_image)
    reached = []
    for _ in range(9):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert reached == ["left", "swap", "right", "stage", "divider", "fit", "actual", "out", "in"]


def test_sharp_on_screens_of_two_pixels_for_one(opened, page_of_image):
    page = opened(page_of_image, device_scale_factor=2)
    page.click("#actual")
    assert position(page)[2] == 200
