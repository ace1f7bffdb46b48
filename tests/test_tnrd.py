"""TNRD agrees with a plain NumPy form of its equations, and works with the commands."""

import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image
from scipy.ndimage import correlate
from typer.testing import CliRunner

from subpixel import ModelError
from subpixel.cli import app
from subpixel.engines.base import from_float
from subpixel.models.model import ModelMetadata
from subpixel.ops.resize import imresize
from training_configs import changed_config

torch = pytest.importorskip("torch")

from subpixel.engines import tnrd  # noqa: E402


def random_tnrd(scale: int, stages: int = 2) -> tnrd.TNRD:
    network = tnrd.TNRD(scale, stages, torch.Generator().manual_seed(scale))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in network.influence:
            weights.normal_(0, 1, generator=generator)
    return network


def downscale(image: np.ndarray, scale: int) -> np.ndarray:
    return imresize(image, 1 / scale)


def plain(network: tnrd.TNRD, small: np.ndarray) -> np.ndarray:
    """Compute equation (8) for ``(H, W)`` in 0..255: exact Gaussians, SciPy's correlation, A as a matrix."""
    scale = network.scale
    large = imresize(small, scale)
    pixels = np.eye(large.size).reshape(-1, *large.shape)
    downscaling = np.array([downscale(pixel, scale).ravel() for pixel in pixels]).T
    centers = np.linspace(-tnrd.RANGE, tnrd.RANGE, tnrd.CENTERS)
    for stage in range(network.stages):
        filters = network.filters(stage).detach().double().numpy().reshape(-1, 7, 7)
        weights = network.influence[stage].detach().double().numpy()
        diffusion = np.zeros_like(large)
        for kernel, heights in zip(filters, weights, strict=True):
            response = correlate(large, kernel, mode="nearest")
            bumps = np.exp(-((response[..., None] - centers) ** 2) / (2 * tnrd.WIDTH**2))
            diffusion += correlate(bumps @ heights, kernel[::-1, ::-1], mode="constant")
        error = downscaling @ large.ravel() - small.ravel()
        reaction = float(network.reaction[stage].detach()) * scale**2
        large = large - diffusion - reaction * (downscaling.T @ error).reshape(large.shape)
    return large


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_computes_the_papers_equation(scale: int) -> None:
    network = random_tnrd(scale)
    small = imresize(skimage.data.camera().astype(np.float64), 1 / 32)[:13, :11]
    with torch.no_grad():
        result = network.upscale(torch.tensor(small / 255, dtype=torch.float32)[None, None])[0, 0] * 255
    expected = plain(network, small)
    change = np.abs(expected - imresize(small, scale)).max()
    assert change > 20  # otherwise the comparison means nothing
    # At the edges they differ slightly: the network's A' drops the padding, the exact transpose does not.
    inside = slice(3 * scale, -3 * scale)
    np.testing.assert_allclose(result.numpy()[inside, inside], expected[inside, inside], atol=0.02 * change)


def test_an_untrained_network_is_bicubic() -> None:
    network = tnrd.TNRD(3)
    with torch.no_grad():
        network.reaction.zero_()
    plane = imresize(skimage.data.camera(), 1 / 8)
    expected = from_float(imresize(plane / 255, 3), plane.dtype)
    difference = tnrd.TnrdModel("m", network, ModelMetadata())(plane).astype(int) - expected
    assert abs(difference).max() <= 1  # float32 against float64


def test_atoms_are_orthonormal_with_zero_mean() -> None:
    atoms = tnrd.dct_atoms()
    np.testing.assert_allclose(atoms @ atoms.T, np.eye(48), atol=1e-12)
    np.testing.assert_allclose(atoms.sum(1), 0, atol=1e-12)


def test_gradients_of_influence_functions() -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(3, 41, dtype=torch.float64, generator=generator, requires_grad=True)
    responses = torch.rand(2, 3, 16, dtype=torch.float64, generator=generator) * 2 * tnrd.RANGE - tnrd.RANGE
    responses.requires_grad_()
    torch.autograd.gradcheck(tnrd.influence, (responses, table), eps=1e-4)


def test_influence_functions_are_constant_outside_of_their_range() -> None:
    table = torch.linspace(0, 1, 41)[None]
    ends = tnrd.influence(torch.tensor([[[-900.0, 900.0]]]), table)
    np.testing.assert_allclose(ends.numpy().ravel(), [0, 1], atol=1e-4)


def test_the_commands_train_and_evaluate_it(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("astronaut", "coffee", "camera"):
        image = imresize(getattr(skimage.data, name)(), 1 / 4)
        Image.fromarray(image).save(tmp_path / "photos" / f"{name}.png")
    changes = {
        'folders = ["T91", "BSDS500/train", "ImageNet1000"]': 'folders = ["photos"]',
        'halved = ["BSDS500/train", "ImageNet1000"]': "halved = []",
        'folder = "BSDS500/train"': 'folder = ""',
        '["Set5", "Set14", "BSDS500/val", "BSDS500/test"]': '["photos"]',
        "batches_per_epoch = 200": "batches_per_epoch = 4",
        "max_epochs = 30": "max_epochs = 2",
        "ema = 0.99": "ema = 0.5",
        "side_px = 24": "side_px = 16",
    }
    config = changed_config("tnrd-large-x3", changes, tmp_path / "tiny.toml")
    command = ["train", str(config), "--datasets", str(tmp_path), "-o", str(tmp_path / "run")]
    done = CliRunner().invoke(app, [*command, "--device", "cpu"])
    assert done.exit_code == 0, done.output
    path = tmp_path / "run" / "tnrd-large-x3.safetensors"
    metadata = tnrd.load_tnrd(path).metadata
    asked = ["evaluate", str(tmp_path / "photos"), "-m", str(path), "--json"]
    measured = CliRunner().invoke(app, asked)
    assert measured.exit_code == 0, measured.output
    report = json.loads(measured.stdout)
    assert report["engine"] == "torch" and report["model"] == "tnrd-large-x3"
    assert report["mean"]["psnr_db"] == pytest.approx(metadata.psnr_db["photos"], abs=1e-3)
    assert report["mean"]["psnr_db"] > report["mean"]["bicubic_psnr_db"]
    other = CliRunner().invoke(app, [*asked, "--scale", "2"])
    assert other.exit_code == 2 and "upscales x3, not x2" in other.stderr
    eight = CliRunner().invoke(app, [*asked, "--precision", "int8"])
    assert eight.exit_code == 2 and "TNRD runs on PyTorch in fp32" in eight.stderr


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match=r"not a readable \.safetensors file"):
        tnrd.load_tnrd(tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match="no such model file"):
        tnrd.load_tnrd(tmp_path / "b.safetensors")
