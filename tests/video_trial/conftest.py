"""Fixtures for tests of whole outputs: a network that is fast."""

import pytest

import subpixel
from interpolating import bicubic_model
from subpixel.upscaler import Upscaler


@pytest.fixture(scope="module")
def upscaler():
    return Upscaler(bicubic_model(2), "numpy", threads=1)


@pytest.fixture
def upscale(upscaler):
    def upscale(source, output, **options):
        return subpixel.upscale_video(source, output, upscaler=upscaler, **options)

    return upscale
