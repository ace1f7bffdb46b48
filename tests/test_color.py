import numpy as np
import pytest
from PIL import Image
from skimage import data
from skimage.color import rgb2ycbcr

from subpixel.ops.color import luma, luma_8bit, rgb_to_ycbcr, ycbcr_to_rgb

COLORS = {"black": (0, 0, 0), "white": (1, 1, 1), "red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}


@pytest.fixture(scope="module")
def photo():
    return data.astronaut()[:200, :150]


def test_matches_scikit_image(photo):
    ours = rgb_to_ycbcr(photo / 255)
    # scikit-image has MATLAB's matrix, whose chroma rows are rounded to three decimals.
    np.testing.assert_allclose(ours * 255, rgb2ycbcr(photo), rtol=0, atol=1e-3)
    np.testing.assert_allclose(ours[..., 0] * 255, rgb2ycbcr(photo)[..., 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("color", "expected"),
    [  # rgb2ycbcr(uint8(255 * ...)) in MATLAB
        ("black", (16, 128, 128)),
        ("white", (235, 128, 128)),
        ("red", (81, 90, 240)),
        ("green", (145, 54, 34)),
        ("blue", (41, 240, 110)),
    ],
)
def test_matlab_values(color, expected):
    ours = rgb_to_ycbcr(np.array(COLORS[color], np.float64))
    assert tuple(np.rint(ours * 255)) == expected
    assert luma_8bit(np.array([[COLORS[color]]], np.uint8) * np.uint8(255)) == expected[0]


@pytest.mark.parametrize(
    ("color", "expected"),
    [  # ITU-R BT.709 at 8 bits: the color bars at 100%
        ("white", (235, 128, 128)),
        ("red", (63, 102, 240)),
        ("green", (173, 42, 26)),
        ("blue", (32, 240, 118)),
    ],
)
def test_bt709_values(color, expected):
    ours = rgb_to_ycbcr(np.array(COLORS[color], np.float64), matrix="bt709")
    assert tuple(np.rint(ours * 255)) == expected


def test_full_range_matches_jpeg(photo):
    pillow = np.asarray(Image.fromarray(photo).convert("YCbCr"))
    ours = rgb_to_ycbcr(photo / 255, limited=False) * 255
    np.testing.assert_allclose(ours, pillow, rtol=0, atol=1.01)  # Pillow truncates


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("limited", [True, False])
def test_round_trip(photo, dtype, matrix, limited):
    rgb = (photo / 255).astype(dtype)
    ycbcr = rgb_to_ycbcr(rgb, matrix=matrix, limited=limited)
    back = ycbcr_to_rgb(ycbcr, matrix=matrix, limited=limited)
    assert ycbcr.dtype == back.dtype == dtype
    np.testing.assert_allclose(back, rgb, rtol=0, atol=8 * np.finfo(dtype).eps)


def test_round_trip_keeps_every_16_bit_gray_in_float32():
    gray = np.arange(65536, dtype=np.float32)[:, None].repeat(3, axis=1) / np.float32(65535)
    back = ycbcr_to_rgb(rgb_to_ycbcr(gray))
    np.testing.assert_array_equal(np.rint(back * 65535), np.rint(gray * 65535))


@pytest.mark.parametrize(("dtype", "largest"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_luma_is_the_first_plane_at_every_depth(photo, dtype, largest):
    image = (photo / 255 * largest).astype(dtype)
    expected = rgb_to_ycbcr(image.astype(np.float64) / largest)[..., 0]
    np.testing.assert_allclose(luma(image), expected, rtol=0, atol=1e-15)
    assert luma(image).dtype == np.float64


def test_gray_is_its_own_luma(photo):
    gray = photo[..., 0]
    assert luma_8bit(gray) is gray
    np.testing.assert_array_equal(luma(gray), gray / 255)


def test_luma_8bit_rounds_every_color_half_up():
    # Luma in thousandths, exact, as Python integers, for colors that include exact ties.
    red, green, blue = np.meshgrid(*[np.arange(0, 256, 5)] * 3)
    cube = np.stack([red, green, blue], axis=-1).reshape(-1, 1, 3).astype(np.uint8)
    exact = [65481 * r + 128553 * g + 24966 * b for r, g, b in cube[:, 0].tolist()]
    expected = [16 + (value * 2 + 255_000) // 510_000 for value in exact]
    assert luma_8bit(cube)[:, 0].tolist() == expected
    assert any(value % 255_000 == 127_500 for value in exact)
    assert luma_8bit(cube).dtype == np.uint8


@pytest.mark.parametrize(
    "call",
    [
        lambda: rgb_to_ycbcr(np.zeros((2, 2, 4))),
        lambda: rgb_to_ycbcr(np.zeros((2, 2, 3), np.uint8)),
        lambda: rgb_to_ycbcr(np.zeros(3), matrix="bt2020"),
        lambda: ycbcr_to_rgb(np.zeros((2, 2))),
        lambda: luma(np.zeros((2, 2, 2))),
        lambda: luma(np.zeros((2, 2), np.int32)),
        lambda: luma_8bit(np.zeros((2, 2, 3), np.uint16)),
    ],
)
def test_invalid_images_are_refused(call):
    with pytest.raises(ValueError, match=r"expected|unknown"):
        call()
