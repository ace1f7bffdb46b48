"""Profiles that are made here, against those of LittleCMS (imagecodecs)."""

import io
import struct

import imagecodecs
import numpy as np
import pytest
from PIL import ImageCms

from subpixel.images.codecs.png_colors import srgb_to_linear
from subpixel.images.icc import make_profile

D65 = (0.3127, 0.3290)
SPACES = {
    "srgb": (D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    "dci-p3": ((0.314, 0.351), (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
    "prophoto": ((0.3457, 0.3585), (0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)),
}
CURVES = {"gamma": 2.2, "linear": 1.0, "srgb": srgb_to_linear(np.linspace(0, 1, 4096))}


def of_littlecms(points, curve, space):
    options = {"gamma": curve}
    if not isinstance(curve, float):
        options = {"transferfunction": np.round(curve * 65535).astype(np.uint16)}
    if space == "rgb":
        options["primaries"] = [value for point in points[1:] for value in (*point, 1.0)]
    return bytes(imagecodecs.cms_profile(space, whitepoint=(*points[0], 1.0), **options))


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
@pytest.mark.parametrize("points", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("space", ["rgb", "gray"])
def test_it_converts_colors_as_a_profile_of_littlecms(points, curve, space):
    shape = (40, 50, 3) if space == "rgb" else (40, 50)
    samples = np.random.default_rng(0).integers(0, 65536, shape).astype(np.uint16)
    target = of_littlecms(SPACES["dci-p3"], 1.8, space)

    def converted(profile, intent):
        return imagecodecs.cms_transform(
            samples, profile, target, colorspace=space, outcolorspace=space, outdtype=np.uint16, intent=intent
        )

    profile = make_profile(points, curve, space == "gray")
    for relative_or_absolute in (1, 3):
        expected = converted(of_littlecms(points, curve, space), relative_or_absolute)
        if space == "rgb" or relative_or_absolute == 1:
            np.testing.assert_array_equal(converted(profile, relative_or_absolute), expected)
    assert not np.array_equal(expected, samples)


def test_its_parts():
    profile = make_profile(SPACES["srgb"], 2.2, gray=False)
    assert struct.unpack(">I", profile[:4]) == (len(profile),)
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile
    assert (opened.version, opened.device_class, opened.xcolor_space.strip()) == (4.3, "mntr", "RGB")
    assert (opened.profile_description, opened.copyright) == ("Made by Subpixel", "No copyright")
    np.testing.assert_allclose(opened.media_white_point[0], (0.9642, 1, 0.8249), atol=1e-4)
    assert opened.creation_date.year == 2000


@pytest.mark.parametrize(
    "points",
    [
        (D65, (0, 0), (0, 0), (0, 0)),
        (D65, (0.64, 0.33), (0.64, 0.33), (0.15, 0.06)),
        (D65, (0.1, 0.1), (0.2, 0.2), (0.3, 0.3)),
        ((0.3127, 0), *SPACES["srgb"][1:]),
        ((0, 0), *SPACES["srgb"][1:]),
    ],
)
@pytest.mark.parametrize("gray", [False, True])
def test_impossible_colors(points, gray):
    with pytest.raises(ValueError, match="no display has the chromaticities"):
        make_profile(points, 1.0, gray)


def test_impossible_gamma():
    with pytest.raises(ValueError, match="no display"):
        make_profile(SPACES["srgb"], 100_000.0, gray=False)
