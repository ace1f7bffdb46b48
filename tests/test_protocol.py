import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from subpixel.errors import DatasetError
from subpixel.evaluation import protocol
from subpixel.evaluation.metrics import psnr_db, ssim
from subpixel.evaluation.protocol import Degradation, Scores, evaluate_file, evaluate_image, find_images
from subpixel.ops.color import luma_8bit
from subpixel.ops.resize import imresize

ROOT = Path(__file__).parents[1]
STORED = json.loads((ROOT / "benchmarks" / "results" / "protocol_pitfalls.json").read_text(encoding="utf-8"))
BASELINE = {
    ("Set5", 2): 33.65,
    ("Set5", 3): 30.39,
    ("Set5", 4): 28.42,
    ("Set14", 2): 30.23,
    ("Set14", 3): 27.54,
    ("Set14", 4): 26.00,
}
PUBLISHED_BICUBIC = {  # PSNR and SSIM of bicubic, Dong et al., "Image super-resolution using deep ..." (2016)
    ("Set5", 2): (33.66, 0.9299),
    ("Set5", 3): (30.39, 0.8682),
    ("Set5", 4): (28.42, 0.8104),
    ("Set14", 2): (30.23, 0.8687),
    ("Set14", 3): (27.54, 0.7736),
    ("Set14", 4): (26.00, 0.7019),
}


@pytest.mark.parametrize(("test_set", "scale"), BASELINE)
def test_bicubic_baseline_is_reproduced(datasets, test_set, scale):
    scores = [
        evaluate_image(protocol.read_image(file), protocol.bicubic(scale), scale)
        for file in find_images(datasets / test_set)
    ]
    ours = protocol.mean(scores)
    assert round(ours.psnr_db, 2) == BASELINE[test_set, scale]
    stored = STORED["baseline"][test_set][f"x{scale}"]
    assert (ours.psnr_db, ours.ssim) == pytest.approx((stored["psnr_db"], stored["ssim"]), abs=1e-9)


@pytest.mark.parametrize(("test_set", "scale"), PUBLISHED_BICUBIC)
def test_bicubic_with_unrounded_lr_equals_the_published_numbers(datasets, test_set, scale):
    scores = []
    for file in find_images(datasets / test_set):
        image = protocol.crop_to_multiple(protocol.read_image(file), scale)
        hr = luma_8bit(image)
        bicubic = imresize(Degradation()(image, scale), scale)
        sr = np.clip(np.floor(bicubic * 255 + 0.5), 0, 255)
        scores.append(Scores(psnr_db(hr, sr, shave=scale), ssim(hr, sr, shave=scale)))
    ours = protocol.mean(scores)
    assert (round(ours.psnr_db, 2), round(ours.ssim, 4)) == PUBLISHED_BICUBIC[test_set, scale]


def pillow_bicubic(plane, size):
    """Pillow's antialiased bicubic, with the edge replicated by hand, because Pillow does not do that."""
    padding = 6 * max(1, plane.shape[0] // size[0])
    padded = Image.fromarray(np.pad(plane, padding, mode="edge").astype(np.float32))
    grown = [round(side * (1 + 2 * padding / old)) for side, old in zip(size, plane.shape, strict=True)]
    resized = np.asarray(padded.resize(grown[::-1], Image.Resampling.BICUBIC))
    cut = [(new - side) // 2 for new, side in zip(grown, size, strict=True)]
    return resized[cut[0] : cut[0] + size[0], cut[1] : cut[1] + size[1]]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_scores_agree_with_other_programs_through_png_files(tmp_path, scale):
    source = data.astronaut()[:125, 60:230]
    Image.fromarray(source).save(tmp_path / "astronaut.png")
    ours = evaluate_file(tmp_path / "astronaut.png", protocol.bicubic(scale), scale)

    height, width = 125 // scale * scale, 170 // scale * scale
    hr = np.rint(rgb2ycbcr(source)[:height, :width, 0])
    Image.fromarray(hr.astype(np.uint8)).save(tmp_path / "hr.png")
    for name, source, size in (
        ("lr", "hr", (height // scale, width // scale)),
        ("sr", "lr", (height, width)),
    ):
        plane = pillow_bicubic(np.asarray(Image.open(tmp_path / f"{source}.png")), size)
        Image.fromarray(np.clip(np.rint(plane), 0, 255).astype(np.uint8)).save(tmp_path / f"{name}.png")

    inside = (slice(scale, -scale),) * 2
    x, y = (np.asarray(Image.open(tmp_path / f"{name}.png"))[inside] for name in ("hr", "sr"))
    similarity = structural_similarity(
        x, y, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ours.name == "astronaut"
    assert ours.model == ours.bicubic
    assert ours.model.psnr_db == pytest.approx(peak_signal_noise_ratio(x, y, data_range=255), abs=2e-3)
    assert ours.model.ssim == pytest.approx(similarity, abs=2e-5)


@pytest.mark.parametrize("degradation", [Degradation(), Degradation("gaussian", 1.2)])
def test_lr_is_rounded_half_up_to_8_bits(degradation):
    image = data.astronaut()[:65, :48]
    seen = []

    def upscale(plane):
        seen.append(plane)
        return np.kron(plane, np.ones((2, 2), np.uint8))

    scores = evaluate_image(image, upscale, 2, degradation)
    (lr,) = seen
    np.testing.assert_array_equal(lr, np.floor(degradation(image[:64], 2) * 255 + 0.5))
    assert lr.dtype == np.uint8
    sr = np.kron(lr, np.ones((2, 2), np.uint8))
    assert scores.psnr_db == psnr_db(luma_8bit(image[:64]), sr, shave=2)


def test_bicubic_is_rounded_once_and_clipped():
    plane = data.camera()[150:180, 150:180]
    unclipped = np.floor(imresize(plane.astype(float), 3) + 0.5)
    assert unclipped.max() > 255
    result = protocol.bicubic(3)(plane)
    np.testing.assert_array_equal(result, unclipped.clip(0, 255))
    assert result.dtype == np.uint8
    assert np.any(imresize(plane, 3) != result)  # imresize on uint8 rounds after each pass


def test_grayscale_is_its_own_luma():
    gray = data.camera()[150:270, 150:270]
    as_color = np.stack([gray] * 3, axis=-1)
    ours, other = (evaluate_image(image, protocol.bicubic(3), 3) for image in (gray, as_color))
    # RGB becomes luma in 16..235, which makes every difference smaller by 219/255.
    assert other.psnr_db - ours.psnr_db == pytest.approx(20 * math.log10(255 / 219), abs=0.05)


def test_images_are_cropped_at_bottom_and_right():
    image = data.astronaut()[:64, :65]
    assert evaluate_image(image, protocol.bicubic(3), 3) == evaluate_image(
        image[:63, :63], protocol.bicubic(3), 3
    )


def test_degradations_differ_and_check_their_arguments():
    image = data.astronaut()[:60, :60]
    bicubic, gaussian = (degrade(image, 3) for degrade in (Degradation(), Degradation("gaussian", 1.2)))
    assert bicubic.shape == gaussian.shape == (20, 20)
    assert bicubic.dtype == gaussian.dtype == np.float64
    assert np.any(np.abs(bicubic * 255 - np.rint(bicubic * 255)) > 0.1)  # training uses it unrounded
    assert np.abs(bicubic - gaussian).max() > 2 / 255
    for arguments in (("gaussian",), ("bicubic", 1.0), ("gaussian", 0.0), ("nearest",)):
        with pytest.raises(ValueError, match=r"sigma|unknown"):
            Degradation(*arguments)


@pytest.mark.parametrize(
    ("upscale", "message"),
    [
        (lambda plane: plane, r"uint8 \(20, 20\) into uint8 \(20, 20\), not uint8 \(60, 60\)"),
        (
            lambda plane: imresize(plane / 255, 3),
            r"uint8 \(20, 20\) into float64 \(60, 60\), not uint8 \(60, 60\)",
        ),
    ],
)
def test_a_result_of_wrong_shape_or_dtype_is_an_error(upscale, message):
    with pytest.raises(ValueError, match=message):
        evaluate_image(np.zeros((60, 60), np.uint8), upscale, 3)


def test_mean_averages_decibels():
    assert protocol.mean([Scores(30, 0.5), Scores(40, 1.0)]) == Scores(35, 0.75)


def test_finds_images(tmp_path):
    image = Image.fromarray(data.camera()[:32, :32])
    (tmp_path / "HR").mkdir()
    (tmp_path / "HR" / "folder.png").mkdir()
    for name in ("b.PNG", "a.bmp", "c.jpg", "d.webp", "e.tif"):
        image.save(tmp_path / "HR" / name)
    (tmp_path / "HR" / "README.md").write_text("words")
    image.save(tmp_path / "not in HR.png")
    assert [file.name for file in find_images(tmp_path)] == ["a.bmp", "b.PNG", "c.jpg", "d.webp", "e.tif"]
    assert find_images(tmp_path) == find_images(tmp_path / "HR")


def test_missing_test_sets_are_an_error(tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        find_images(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="contains no images"):
        find_images(tmp_path)


def test_grayscale_color_and_palette_are_read_as_stored(tmp_path):
    color = data.astronaut()[:20, :30]
    Image.fromarray(color).save(tmp_path / "color.png")
    Image.fromarray(color[..., 0]).save(tmp_path / "gray.png")
    palette = Image.fromarray(color).quantize(8)
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(protocol.read_image(tmp_path / "color.png"), color)
    np.testing.assert_array_equal(protocol.read_image(tmp_path / "gray.png"), color[..., 0])
    np.testing.assert_array_equal(
        protocol.read_image(tmp_path / "palette.png"), np.asarray(palette.convert("RGB"))
    )


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("alpha.png", lambda file: Image.new("RGBA", (40, 40)).save(file), "RGBA"),
        ("deep.png", lambda file: Image.fromarray(np.zeros((40, 40), np.uint16)).save(file), "I;16"),
        ("small.png", lambda file: Image.new("L", (17, 40)).save(file), "17x40 is too small"),
        ("broken.png", lambda file: file.write_bytes(b"\x89PNG\r\n\x1a\n cut off"), "not a readable image"),
        (
            "moving.gif",
            lambda file: Image.new("L", (40, 40)).save(
                file, save_all=True, append_images=[Image.new("L", (40, 40), 9)]
            ),
            "several frames",
        ),
    ],
)
def test_errors_name_the_unusable_image(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(DatasetError, match=message) as raised:
        evaluate_file(tmp_path / name, protocol.bicubic(4), 4)
    assert name in str(raised.value)
