"""Training data: pairs, patches, augmentation, halving and compression."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from subpixel import ConfigError, DatasetError
from subpixel.models.networks import espcn
from subpixel.ops.pixel_shuffle import pixel_shuffle

torch = pytest.importorskip("torch")

from subpixel.evaluation.compression import through_h264  # noqa: E402
from subpixel.evaluation.protocol import Degradation  # noqa: E402
from subpixel.training.config import PatchConfig, TrainingConfig, ValidationConfig  # noqa: E402
from subpixel.training.data import Batch, Pair, Patches, augmented, copy_count, load_pairs, make_pair  # noqa: E402
from subpixel.training.initialization import initialize  # noqa: E402
from subpixel.training.loop import Run  # noqa: E402
from subpixel.training.network import Network  # noqa: E402
from training_runs import CPU, numbered_pair, photo  # noqa: E402


def test_a_pair_has_the_luma_of_the_protocol() -> None:
    pair = make_pair(photo(64, 91), 3, Degradation())
    assert pair.lr.shape == (21, 30)
    assert pair.phases.shape == (9, 21, 30)
    luma = 16 + photo(63, 90) @ [65.481, 128.553, 24.966] / 255
    np.testing.assert_array_equal(pixel_shuffle(pair.phases, 3)[0], np.floor(luma + 0.5))


def test_the_papers_grid() -> None:
    """The stride is 17 - sum(f mod 2) = 14 for kernels 5, 3, 3."""
    config = PatchConfig(sampling="grid", side_px=17, batch=4)
    pairs = [numbered_pair(45, 32, 3), numbered_pair(16, 99, 3)]
    patches = Patches(pairs, 3, config, kernels=[5, 3, 3], augment=False, seed=0, device=CPU)
    assert patches.skipped == 1
    expected = [(0, row, column) for row in (0, 14, 28) for column in (0, 14)]
    assert [tuple(origin) for origin in patches.grid] == expected
    batches = list(patches.epoch(0))
    assert [len(batch.lr) for batch in batches] == [4, 2] and patches.batches_per_epoch == 2
    seen = {float(patch[0, 0, 0]) for batch in batches for patch in batch.lr}
    assert seen == {float(row * 32 + column) for _, row, column in expected}


def test_lr_and_target_patches_match() -> None:
    config = PatchConfig(sampling="random", side_px=9, batch=50, batches_per_epoch=2)
    pairs = [numbered_pair(12, 31, 2), numbered_pair(20, 9, 2)]
    patches = Patches(pairs, 2, config, kernels=[3], augment=False, seed=3, device=CPU)
    for batch in patches.epoch(5):
        assert batch.lr.shape == (50, 1, 9, 9) and batch.target.shape == (50, 4, 9, 9)
        # In a numbered pair, phase 0 of the target is the index of the LR pixel.
        torch.testing.assert_close(batch.target[:, :1], batch.lr / 255, rtol=0, atol=0)
    first, again = next(patches.epoch(5)).lr, next(patches.epoch(5)).lr
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, next(patches.epoch(6)).lr)


@pytest.mark.parametrize(("drawn_by", "share"), [("area", 0.1), ("image", 0.5)])
def test_images_are_drawn_by_area_or_uniformly(drawn_by: Literal["area", "image"], share: float) -> None:
    """One of two images has nine times the area of the other."""
    config = PatchConfig(sampling="random", side_px=4, batch=500, batches_per_epoch=1, drawn_by=drawn_by)
    small, large = (
        Pair(np.full((side, side), value, np.float32), np.zeros((4, side, side), np.uint8))
        for side, value in ((10, 1), (30, 0))
    )
    patches = Patches([small, large], 2, config, kernels=[3], augment=False, seed=0, device=CPU)
    assert float(next(patches.epoch(0)).lr.mean()) == pytest.approx(share, abs=0.06)


def test_excluded_borders_are_those_that_padding_affects() -> None:
    """Where the weight is 1, the output on the patch equals the output on the whole image."""
    network = Network(espcn(2))
    initialize(network, "lecun", torch.Generator().manual_seed(0))
    pair = make_pair(photo(60, 80), 2, Degradation())
    config = PatchConfig(sampling="random", side_px=16, batch=64, batches_per_epoch=1, border="exclude")
    patches = Patches([pair], 2, config, kernels=[5, 3, 3], augment=False, seed=0, device=CPU)
    expected_pair = Pair(network(torch.from_numpy(pair.lr)[None, None])[0, 0].detach().numpy(), pair.phases)
    results = Patches([expected_pair], 2, config, kernels=[5, 3, 3], augment=False, seed=0, device=CPU)
    (batch,), (expected,) = patches.epoch(0), results.epoch(0)
    assert batch.weight is not None
    difference = (network(batch.lr)[:, :1] - expected.lr).abs()
    counted = batch.weight.bool()
    assert difference[counted].max() < 1e-6
    assert difference[~counted].max() > 1e-3
    # In a patch inside the image 8 x 8 pixels count; in one at its border, more do.
    assert counted[:, 0].sum(dim=(1, 2)).min() == 64
    assert counted[:, 0].sum(dim=(1, 2)).max() > 64


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_augmenting_unshuffled_targets_augments_the_image(scale: int) -> None:
    """All eight variants equal flips of the shuffled image."""
    rng = np.random.default_rng(0)
    target = torch.from_numpy(rng.random((2, scale**2, 5, 5)))
    lr = torch.from_numpy(rng.random((2, 1, 5, 5)))
    batch = Batch(lr, target, weight=lr.clone())
    large = torch.pixel_shuffle(target, scale)
    seen = set()
    for view in range(8):
        result = augmented(batch, view, scale)
        expected_lr, expected_hr = lr, large
        if view & 4:
            expected_lr, expected_hr = expected_lr.transpose(2, 3), expected_hr.transpose(2, 3)
        if view & 1:
            expected_lr, expected_hr = expected_lr.flip(3), expected_hr.flip(3)
        if view & 2:
            expected_lr, expected_hr = expected_lr.flip(2), expected_hr.flip(2)
        torch.testing.assert_close(result.lr, expected_lr, rtol=0, atol=0)
        torch.testing.assert_close(result.weight, expected_lr, rtol=0, atol=0)
        torch.testing.assert_close(torch.pixel_shuffle(result.target, scale), expected_hr, rtol=0, atol=0)
        seen.add(result.lr.numpy().tobytes())
    assert len(seen) == 8


def test_validation_images_are_not_trained_on(
    small_config: TrainingConfig, datasets: Path, tmp_path: Path
) -> None:
    folder = small_config.data.folders[0]
    everything = Run(replace(small_config, validation=ValidationConfig()), datasets, tmp_path / "a", CPU)
    held_out = ValidationConfig(folder, limit=1)
    rest = Run(replace(small_config, validation=held_out), datasets, tmp_path / "b", CPU)
    assert len(rest.validation) == 1
    copies = len(small_config.data.shrink)
    assert len(rest.patches.heights) == len(everything.patches.heights) - copies
    with pytest.raises(ConfigError, match="no image is left to train on"):
        Run(replace(small_config, validation=ValidationConfig(folder)), datasets, tmp_path / "c", CPU)


def test_images_smaller_than_a_patch_are_refused() -> None:
    config = PatchConfig(sampling="grid", side_px=17, batch=4)
    with pytest.raises(DatasetError, match="no image is 51 pixels high and wide"):
        Patches([numbered_pair(16, 40, 3)], 3, config, kernels=[3], augment=False, seed=0, device=CPU)


def test_halved_images_have_half_the_size(datasets: Path) -> None:
    path = sorted((datasets / "photos").iterdir())[0]
    (full,), (half,) = (load_pairs([path], 3, Degradation(), halved_below_quality=q) for q in (0, 101))
    assert [abs(2 * b - a) <= 2 for a, b in zip(full.lr.shape, half.lr.shape, strict=True)] == [True, True]


def test_only_jpegs_below_the_quality_are_halved(tmp_path: Path) -> None:
    for quality in (89, 91):
        Image.fromarray(photo(60, 80)).save(tmp_path / f"{quality}.jpg", quality=quality)
    Image.fromarray(photo(60, 80)).save(tmp_path / "a.png")
    paths = [tmp_path / name for name in ("89.jpg", "91.jpg", "a.png")]
    pairs = load_pairs(paths, 2, Degradation(), halved_below_quality=90)
    assert [pair.lr.shape for pair in pairs] == [(15, 20), (30, 40), (30, 40)]


def test_compressed_copies_have_the_targets_of_their_images(tmp_path: Path) -> None:
    for name in ("first", "second"):
        Image.fromarray(photo(95, 120)).save(tmp_path / f"{name}.png")
    paths = sorted(tmp_path.glob("*.png"))
    pairs = load_pairs(paths, 3, Degradation(), compressed_copies=6)
    again = load_pairs(paths[1:], 3, Degradation(), compressed_copies=6)
    assert len(pairs) == 14
    clean = pairs[0]
    errors = []
    for pair in pairs[1:7]:
        np.testing.assert_array_equal(pair.phases, clean.phases)
        assert pair.lr.shape == clean.lr.shape and pair.lr.dtype == np.float32
        errors.append(float(np.sqrt(np.mean((pair.lr - clean.lr) ** 2))) * 255)
    assert min(errors) > 0.5 and max(errors) < 20, "compressed, and aligned with the clean image"
    assert len({pair.lr.tobytes() for pair in pairs}) == 13, (
        "every copy of every file is compressed differently"
    )
    for pair, other in zip(pairs[7:], again, strict=True):
        np.testing.assert_array_equal(pair.lr, other.lr)


def test_copy_counts_have_the_given_mean() -> None:
    names = [f"{number}.png" for number in range(2000)]
    for wanted, low, high in ((0.0, 0, 0), (0.25, 430, 570), (1.0, 2000, 2000), (1.5, 2900, 3100)):
        copies = [copy_count(name, wanted) for name in names]
        assert low <= sum(copies) <= high
        assert copies == [copy_count(name, wanted) for name in names]
    assert {copy_count(name, 1.5) for name in names} == {1, 2}


@pytest.mark.parametrize("shape", [(1, 1), (7, 2), (17, 33)])
def test_h264_keeps_the_size_and_order_of_planes(shape: tuple[int, int]) -> None:
    planes = [np.full(shape, value, np.uint8) for value in (30, 90, 150, 210)]
    for given, found in zip(planes, through_h264(planes, 18), strict=True):
        assert found.shape == shape
        assert np.abs(found.astype(int) - given).max() <= 3
