"""Pages of `subpixel compare`: what is in the file. `test_compare_page.py` opens them in a browser."""

import io
import re

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from PIL.ImageCms import ImageCmsProfile, createProfile
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from typer.testing import CliRunner

import subpixel
from image_files import smooth_image
from interpolating import bicubic_model
from pages import description, pngs, samples
from subpixel.cli import app
from subpixel.comparison.differences import find_spots
from subpixel.comparison.methods import bicubic_model as bicubic_of_pages
from subpixel.ops.resize import imresize


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(smooth_image(40, 48)).save(path)
    return path


def compare(source, target, **options):
    return subpixel.compare(source, target, **{"engine": "numpy", "threads": 1, **options})


def upscaled(source, folder, **options):
    """The samples of `subpixel upscale`."""
    target = folder / "large.png"
    subpixel.upscale_image(source, target, engine="numpy", overwrite=True, **options)
    return imagecodecs.png_decode(target.read_bytes())


@pytest.mark.parametrize(
    ("bands", "dtype"),
    [(bands, dtype) for dtype in (np.uint8, np.uint16) for bands in (1, 2, 3, 4)],
)
def test_samples_are_those_that_upscale_writes(tmp_path, bands, dtype):
    image = smooth_image(24, 30, bands, dtype)
    if bands in (2, 4):
        image[4:12, 5:20, -1] = 0
    source, page = tmp_path / "in.png", tmp_path / "page.html"
    source.write_bytes(imagecodecs.png_encode(image))
    result = compare(source, page, models=["fast", "default"], scale=3)
    assert result.methods == ("bicubic", "fast-x3", "default-x3")
    assert (result.width, result.height, result.frames) == (90, 72, 1)
    np.testing.assert_array_equal(samples(page, "original"), image)
    for view, model in (("method-1", "fast"), ("method-2", "default")):
        large = samples(page, view)
        assert large.dtype == dtype
        np.testing.assert_array_equal(large, upscaled(source, tmp_path, model=model, scale=3))
    assert description(page)["transparent"] == (bands in (2, 4))


def test_bicubic_is_that_of_matlab(tmp_path):
    image = smooth_image(20, 26, 1)
    source, page = tmp_path / "in.png", tmp_path / "page.html"
    source.write_bytes(imagecodecs.png_encode(image))
    compare(source, page, scale=3)
    expected = np.clip(np.floor(imresize(image.astype(np.float64), 3) + 0.5), 0, 255)
    np.testing.assert_array_equal(samples(page, "method-0"), expected)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_network_of_bicubic(scale):
    ours, independent = bicubic_of_pages(scale), bicubic_model(scale)
    assert ours.spec == independent.spec
    for name, weights in independent.weights.items():
        np.testing.assert_allclose(ours.weights[name], weights, atol=1e-7)


def test_a_crop_is_cut_from_the_whole_result(photo, tmp_path):
    page, crop = tmp_path / "page.html", (7, 30, 25, 10)
    result = compare(photo, page, scale=3, crop=crop)
    assert (result.width, result.height) == (75, 30)
    whole = upscaled(photo, tmp_path, scale=3)
    np.testing.assert_array_equal(samples(page, "method-1"), whole[90:120, 21:96])
    np.testing.assert_array_equal(samples(page, "original"), smooth_image(40, 48)[30:40, 7:32])


def test_color_profile_is_kept_and_nothing_private(tmp_path):
    profile = ImageCmsProfile(createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010E] = "a private description"
    exif[0x0112] = 6  # rotated by 90 degrees
    source, page = tmp_path / "in.jpg", tmp_path / "page.html"
    Image.fromarray(smooth_image(40, 48)).save(source, icc_profile=profile, exif=exif, quality=98)
    compare(source, page)
    for data in pngs(page).values():
        with Image.open(io.BytesIO(data)) as image:
            assert image.info["icc_profile"] == profile
            assert image.height > image.width
            assert not image.getexif()
    assert "private" not in page.read_text("utf-8")
    assert str(tmp_path) not in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("quality", "expected"),
    [(98, ("bicubic", "default-x2")), (50, ("bicubic", "default-x2", "default-compressed-x2"))],
)
def test_without_models_it_shows_the_default_and_the_selected_one(tmp_path, quality, expected):
    source, page = tmp_path / "in.jpg", tmp_path / "page.html"
    Image.fromarray(smooth_image(40, 48)).save(source, quality=quality)
    assert compare(source, page).methods == expected
    shown = description(page)
    assert (shown["left"], shown["right"]) == ("method-0", f"method-{len(expected) - 1}")


def test_two_models_are_compared_with_each_other(photo, tmp_path):
    page = tmp_path / "page.html"
    # The scale comes from the first name that has one.
    result = compare(photo, page, models=["fast", "default-x3"])
    assert (result.scale, result.methods) == (3, ("bicubic", "fast-x3", "default-x3"))
    assert (description(page)["left"], description(page)["right"]) == ("method-1", "method-2")


def test_a_scale_that_no_network_has(photo, tmp_path):
    """Several networks and a reduction make it, as with `upscale`."""
    page = tmp_path / "page.html"
    result = compare(photo, page, scale=5)
    assert (result.width, result.height) == (240, 200)
    assert result.methods == ("bicubic", "default-x3 to x5")
    np.testing.assert_array_equal(samples(page, "method-1"), upscaled(photo, tmp_path, scale=5))


def test_model_files_with_the_same_name(photo, tmp_path):
    models = [subpixel.load(name, scale=2).model for name in ("default", "fast", "best")]
    files = [tmp_path / name for name in ("a.safetensors", "b.safetensors", "other/b.safetensors")]
    files[2].parent.mkdir()
    for model, file in zip(models, files, strict=True):
        subpixel.Model("same", model.spec, model.weights).save(file)
    names = compare(photo, tmp_path / "page.html", models=files).methods
    assert names == ("bicubic", "same", "same (b.safetensors)", "same (b.safetensors) 2")
    assert str(tmp_path) not in (tmp_path / "page.html").read_text("utf-8")


def luma(image):
    """BT.601 in 16 to 235, rounded, written again from the recommendation."""
    if image.ndim == 2:
        return image
    weights = np.array([0.299, 0.587, 0.114])
    return np.floor(image.astype(np.float64) @ weights * 219 / 255 + 16.5).astype(np.uint8)


@pytest.mark.parametrize("name", ["comic", "bridge"])
def test_psnr_and_ssim_of_a_test_set(datasets, tmp_path, name):
    """Against scikit-image, on files that MATLAB made; one RGB and one grayscale."""
    source = datasets / "Set14" / "LR_bicubic_matlab" / "X3" / f"{name}x3.png"
    reference = datasets / "Set14" / "HR" / f"{name}.png"
    page = tmp_path / "page.html"
    crop = (10, 20, 60, 70)
    result = compare(source, page, reference=reference, scale=3, crop=crop)
    high = np.asarray(Image.open(reference))[60:270, 30:210]
    shown = description(page)["stills"][0]["scores"]
    for view in ("method-0", "method-1"):
        planes = [luma(image)[3:-3, 3:-3] for image in (high, samples(page, view))]
        psnr = peak_signal_noise_ratio(*planes, data_range=255)
        assert shown[view]["psnr_db"] == pytest.approx(psnr, abs=6e-4)
        _, windows = structural_similarity(
            *planes, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
        )
        assert shown[view]["ssim"] == pytest.approx(windows[5:-5, 5:-5].mean(), abs=2e-5)
    assert result.psnr_db["default-x3"] > result.psnr_db["bicubic"] + 0.5
    np.testing.assert_array_equal(samples(page, "reference"), high)


def test_a_reference_is_cropped_as_datasets_are(photo, tmp_path):
    reference, page = tmp_path / "hr.png", tmp_path / "page.html"
    high = smooth_image(81, 97)
    Image.fromarray(high).save(reference)
    result = compare(photo, page, reference=reference)
    assert any("97 x 81 pixels cropped to 96 x 80" in warning for warning in result.warnings)
    np.testing.assert_array_equal(samples(page, "reference"), high[:80, :96])
    assert set(result.psnr_db) == {"bicubic", "default-x2"}


def test_gray_against_rgb_of_the_same_content(tmp_path):
    """Luma of both is taken in the same range."""
    high = smooth_image(80, 96, 1)
    source, reference, page = tmp_path / "in.png", tmp_path / "hr.png", tmp_path / "page.html"
    Image.fromarray(high[::2, ::2].copy()).save(source)
    Image.fromarray(np.repeat(high[..., None], 3, 2)).save(reference)
    both_color = compare(source, page, reference=reference).psnr_db["bicubic"]
    Image.fromarray(high).save(reference)
    both_gray = compare(source, page, reference=reference, overwrite=True).psnr_db["bicubic"]
    assert both_color == pytest.approx(both_gray + 20 * np.log10(255 / 219), abs=0.1)


def test_no_psnr_with_transparency(tmp_path):
    source, reference = tmp_path / "in.png", tmp_path / "hr.png"
    source.write_bytes(imagecodecs.png_encode(smooth_image(20, 24, 4)))
    Image.fromarray(smooth_image(40, 48)).save(reference)
    result = compare(source, tmp_path / "page.html", reference=reference)
    assert not result.psnr_db
    assert any("transparency" in warning for warning in result.warnings)


def test_spots_are_where_results_differ():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 200, (240, 320), np.uint8)
    second = first.copy()
    second[40:64, 200:224] += 30
    second[160:184, 20:44] += 50
    spots = find_spots(first, second, scale=2)
    assert spots == find_spots(second, first, scale=2)
    assert len(spots) == 2
    assert spots[0].difference > spots[1].difference > 5
    for spot, (x, y) in zip(spots, [(32, 172), (212, 52)], strict=True):
        assert spot.x <= x < spot.x + spot.width
        assert spot.y <= y < spot.y + spot.height


def test_spots_do_not_overlap_and_are_inside():
    rng = np.random.default_rng(1)
    spots = find_spots(*rng.integers(0, 256, (2, 90, 150), np.uint8), scale=3)
    assert 4 <= len(spots) <= 8
    covered = np.zeros((90, 150), int)
    for spot in spots:
        assert spot.x + spot.width <= 150 and spot.y + spot.height <= 90
        covered[spot.y : spot.y + spot.height, spot.x : spot.x + spot.width] += 1
    assert covered.max() == 1


def test_every_pair_has_its_spots(photo, tmp_path):
    reference, page = tmp_path / "hr.png", tmp_path / "page.html"
    Image.fromarray(smooth_image(80, 96, seed=1)).save(reference)
    compare(photo, page, models=["fast"], reference=reference)
    spots = description(page)["stills"][0]["spots"]
    assert set(spots) == {"method-0 method-1", "method-0 reference", "method-1 reference"}
    assert spots["method-0 reference"][0][4] > 20  # another image


def test_equal_results_have_no_spots(tmp_path):
    source, page = tmp_path / "in.png", tmp_path / "page.html"
    Image.fromarray(np.full((5, 4), 77, np.uint8)).save(source)  # smaller than a spot, and flat
    compare(source, page)
    assert description(page)["stills"][0]["spots"] == {"method-0 method-1": []}


def test_names_cannot_break_the_page(tmp_path):
    source = tmp_path / "<script>alert(1)<!-- & é.png"
    Image.fromarray(smooth_image(20, 24)).save(source)
    page = tmp_path / "page.html"
    compare(source, page)
    assert description(page)["file"] == source.name
    assert "<script>alert" not in page.read_text("utf-8")


def test_the_same_input_gives_the_same_page(photo, tmp_path):
    pages = [tmp_path / "a.html", tmp_path / "b.html"]
    for page in pages:
        compare(photo, page)
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_progress(photo, tmp_path):
    fractions = []
    compare(photo, tmp_path / "page.html", progress=lambda progress: fractions.append(progress.fraction))
    assert fractions == sorted(fractions) and fractions[-1] == 1


def run(*arguments):
    return CliRunner().invoke(app, ["compare", "--engine", "numpy", *map(str, arguments)])


def test_the_command(photo, tmp_path):
    page = tmp_path / "page.html"
    result = run(photo, "-s", 3, "-m", "default", "-m", "fast", "--crop", "4,5,20,18", "-o", page)
    assert result.exit_code == 0, result.output
    size = page.stat().st_size
    assert re.search(
        rf"page\.html: {size / 1e3:.1f} kB, 60 x 54: bicubic, default-x3, fast-x3", result.output
    )
    assert run(photo, "-o", page).exit_code == 1  # it exists
    assert run(photo, "-o", page, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing.png", "-o", "page.html"], 1, r"missing\.png: cannot be read"),
        (["notes.txt", "-o", "page.html"], 1, r"notes\.txt: is not"),
        (["broken.mp4", "-o", "page.html"], 1, r"broken\.mp4: cannot be read"),
        (["photo.png", "-o", "page.png"], 1, r"page\.png: .*\.html"),
        (["photo.png", "-o", "photo.html", "--reference", "photo.html"], 1, "is the input"),
        (["photo.png", "-o", "page.html", "-m", "default-x3", "-s", "2"], 2, "x3, not x2"),
        (["photo.png", "-o", "page.html", "-m", "default-x3", "-m", "fast-x2"], 2, "x2, not x3"),
        (["photo.png", "-o", "page.html", "-m", "default", "-m", "default-x2"], 2, "name it once"),
        (["photo.png", "-o", "page.html", "-m", "bicubic"], 2, "every page"),
        (["photo.png", "-o", "page.html", "-m", "nothing"], 2, "no packaged model 'nothing'"),
        (["photo.png", "-o", "page.html", "-s", "9"], 2, "8"),
        (["photo.png", "-o", "page.html", "-s", "1.5"], 2, "a whole number from 1 to 8, not 1.5"),
        (["photo.png", "-o", "page.html", "-s", "nan"], 2, "a whole number"),
        (["photo.png", "-o", "page.html", "--crop", "1,2,3"], 2, "X,Y,WIDTH,HEIGHT"),
        (["photo.png", "-o", "page.html", "--crop", "0,0,0,5"], 2, "crop"),
        (["photo.png", "-o", "page.html", "--crop", "40,0,9,5"], 1, r"photo\.png: .*48 x 40"),
        (["photo.png", "-o", "page.html", "--frames", "3"], 2, "frames are of a video"),
        (["photo.png", "-o", "page.html", "--max-page-pixels", "1000"], 1, "--crop .*--max-page-pixels"),
        (["photo.png", "-o", "page.html", "--reference", "photo.png"], 1, r"48 x 40 pixels.*96 x 80; name "),
        (["photo.png", "-o", "page.html", "--reference", "thin.png"], 1, r"95 x 80 pixels.*; name "),
        (["photo.png", "-o", "page.html", "--reference", "hr.png"], 1, r"pass -s 3"),
        (["photo.png", "-o", "page.html", "--reference", "broken.mp4"], 2, "is an image by its name"),
        (["-", "-o", "page.html"], 2, "is a pipe"),
    ],
)
def test_errors_say_what_to_do(photo, tmp_path, monkeypatch, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "broken.mp4").write_bytes(b"\0" * 500)
    (tmp_path / "photo.html").write_bytes(photo.read_bytes())
    Image.fromarray(smooth_image(120, 144)).save(tmp_path / "hr.png")
    Image.fromarray(smooth_image(80, 95)).save(tmp_path / "thin.png")
    before = sorted(tmp_path.iterdir())
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert re.search(words, result.output.replace("\n", " ")), result.output
    assert sorted(tmp_path.iterdir()) == before  # nothing half done is left


def test_the_note_about_an_animation(photo, tmp_path):
    """A page shows one frame, so the cure of `upscale_image` is none."""
    first = Image.open(photo)
    first.save(tmp_path / "a.gif", save_all=True, append_images=[first.rotate(90)])
    page = compare(tmp_path / "a.gif", tmp_path / "page.html", engine="numpy")
    note = f"{tmp_path / 'a.gif'}: is an animation of 2 frames, of which only the first is upscaled"
    assert page.warnings == (note,)


def test_wrong_types(photo, tmp_path):
    for wrong in ({"frames": "three"}, {"models": "default"}, {"progress": 3}, {"crop": (0, 0, 1.5, 2)}):
        with pytest.raises(TypeError):
            compare(photo, tmp_path / "page.html", **wrong)
