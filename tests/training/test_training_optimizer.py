"""Losses, fake quantization, optimizers and schedules."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from subpixel import ConfigError

torch = pytest.importorskip("torch")

from subpixel.training.config import ScheduleConfig, TrainingConfig  # noqa: E402
from subpixel.training.data import Batch  # noqa: E402
from subpixel.training.fake_quantization import fake_quantize  # noqa: E402
from subpixel.training.loop import Run  # noqa: E402
from subpixel.training.loss import PSNR_FLOOR, mean_loss  # noqa: E402
from subpixel.training.schedule import make_schedule  # noqa: E402
from subpixel.training.soap import SOAP, orthonormal_by_cholesky  # noqa: E402
from training_runs import CPU  # noqa: E402


def test_the_first_epochs_minimize_the_absolute_error(
    small_config: TrainingConfig, datasets: Path, tmp_path: Path
) -> None:
    phases, target = torch.tensor([0.0, 3.0]), torch.tensor([1.0, 0.0])
    batch = Batch(torch.zeros(1), target, None)
    assert float(mean_loss(phases, batch.target, batch.weight, "l1")) == 2
    assert float(mean_loss(phases, batch.target, batch.weight)) == 5
    losses: dict[int, list[float]] = {0: [], 1: []}
    for epochs, seen in losses.items():
        config = replace(small_config, optimizer=replace(small_config.optimizer, l1_epochs=epochs))
        run = Run(config, datasets, tmp_path / str(epochs), CPU)
        run.train(lambda report, seen=seen: seen.append(report.loss))  # type: ignore[misc]
    assert losses[1][0] > 2 * losses[0][0], "the square of an error below 1 is smaller"
    assert losses[1][1] < 2 * losses[0][1], "later epochs square the errors"


@pytest.mark.parametrize("weighted", [False, True])
def test_the_psnr_loss_weighs_patches_equally(weighted: bool) -> None:
    """The gradient of a patch is that of its squared error divided by the squared error."""
    target = torch.rand(2, 4, 5, 6, generator=torch.Generator().manual_seed(1))
    error = torch.cat([torch.full((1, 4, 5, 6), 0.02), torch.full((1, 4, 5, 6), 0.2)])
    error[:, :, 2:] *= -1
    phases = (target + error).requires_grad_()
    weight = None
    if weighted:  # pixels that do not count have a large error
        weight = torch.zeros(2, 1, 5, 6)
        weight[0, :, 1:4], weight[1, :, :, :2] = 1, 1
        phases = torch.where(weight > 0, phases, target + 9).detach().requires_grad_()
    result = mean_loss(phases, target, weight, "psnr")
    assert float(result.detach()) == pytest.approx(
        5 * (math.log10(0.02**2 + PSNR_FLOOR) + math.log10(0.2**2 + PSNR_FLOOR)), rel=1e-5
    )
    result.backward()  # type: ignore[no-untyped-call]
    assert phases.grad is not None
    for patch, size in enumerate((0.02, 0.2)):
        counted = 120 if weight is None else int(4 * weight[patch].sum())
        expected = 10 / math.log(10) / 2 * 2 * size / (size**2 + PSNR_FLOOR) / counted
        found = phases.grad[patch].abs()
        assert float(found.max()) == pytest.approx(expected, rel=1e-4)
        assert int((found > 0).sum()) == counted


def test_the_loss_of_the_config_is_minimized(
    small_config: TrainingConfig, datasets: Path, tmp_path: Path
) -> None:
    """With "psnr" the first epoch's loss is near minus the PSNR of the initial network, in dB."""
    config = replace(small_config, optimizer=replace(small_config.optimizer, loss="psnr"))
    run = Run(config, datasets, tmp_path / "psnr", CPU)
    initial_db, losses = run.validate(), []
    run.train(lambda report: losses.append(report.loss))
    assert abs(losses[0] + initial_db) < 6
    plateau = replace(config.schedule, kind="plateau")
    with pytest.raises(ConfigError, match='not with loss = "psnr"'):
        replace(config, schedule=plateau)


def test_fake_quantization_gives_the_number_of_values() -> None:
    values = torch.linspace(-0.7, 1.3, 2 * 3 * 50 * 40).reshape(2, 3, 50, 40).requires_grad_()
    result = fake_quantize(values, 16)
    for channel in range(3):
        given, found = values[:, channel].detach(), result[:, channel].detach()
        lowest, highest = min(float(given.min()), 0.0), max(float(given.max()), 0.0)
        step = (highest - lowest) / 15
        assert (found - given).abs().max() <= step / 2 + 1e-6
        assert len(found.unique()) <= 17
        np.testing.assert_allclose(found / step, (found / step).round(), atol=1e-4)


def test_the_gradient_of_fake_quantization_matches_its_formula() -> None:
    """It passes straight to the values, and through the step size to each channel's two extremes."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 5, 7, 6, generator=generator).contiguous(memory_format=torch.channels_last)
    values[:, 0] += 9  # all its values are positive, so its range starts at 0
    weight = torch.randn(values.shape, generator=generator)
    given = values.clone().requires_grad_()
    (fake_quantize(given, 16) * weight).sum().backward()
    plain = values.clone().requires_grad_()
    step = (plain.amax((0, 2, 3)).clamp_min(0) - plain.amin((0, 2, 3)).clamp_max(0))[:, None, None] / 15
    off = ((plain / step).round() - plain / step).detach()
    ((plain + off * step) * weight).sum().backward()
    np.testing.assert_allclose(given.grad, plain.grad, rtol=1e-5, atol=1e-6)
    assert ((given.grad - weight).abs() > 1e-4).sum() == 5 + 4, (
        "only extremes get a gradient from the step size"
    )


def test_contrast_patches_affect_ranges_but_not_the_loss(
    small_config: TrainingConfig, datasets: Path, tmp_path: Path
) -> None:
    """The extra patch changes the loss only with fake quantization."""

    def losses(levels: int, contrast: bool) -> list[float]:
        quantization = replace(small_config.quantization, levels=levels, contrast=contrast)
        seen: list[float] = []
        run = Run(
            replace(small_config, quantization=quantization), datasets, tmp_path / f"{levels}{contrast}", CPU
        )
        run.train(lambda report: seen.append(report.loss))
        return seen

    np.testing.assert_allclose(losses(0, True), losses(0, False), rtol=1e-4)
    assert abs(losses(8, True)[0] / losses(8, False)[0] - 1) > 1e-3


def test_soap_beats_adam_on_an_ill_conditioned_problem() -> None:
    """The problem is least squares with correlated inputs, which the eigenbasis decorrelates."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(20, 20)) * np.logspace(0, -2.5, 20)
    inputs = torch.from_numpy(rng.normal(size=(500, 20)) @ mix).float()
    wanted = inputs @ torch.from_numpy(rng.normal(size=(20, 3))).float()

    def remaining(make: type[torch.optim.Optimizer]) -> float:
        weight = torch.zeros(3, 20, requires_grad=True)
        optimizer = make([weight], lr=0.03)  # type: ignore[call-arg]
        for step in range(300):
            loss = (inputs @ weight.T - wanted).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if isinstance(optimizer, SOAP) and step % 10 == 9:
                optimizer.update_bases()
        return float(loss.detach())

    assert remaining(SOAP) < remaining(torch.optim.Adam) / 3


@pytest.mark.parametrize("smallest", [1e-3, 1e-6])
def test_bases_by_cholesky_match_qr(smallest: float) -> None:
    """The covariances have eigenvalues far apart, as those of gradients have."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(4, 30, 30, generator=generator, dtype=torch.float64))[0]
    covariance = (axes * torch.logspace(0, math.log10(smallest), 30, dtype=torch.float64)) @ axes.mT
    basis = torch.linalg.qr(axes + 0.05 * torch.randn(4, 30, 30, generator=generator))[0]
    expected = torch.linalg.qr(covariance @ basis)[0]
    found = orthonormal_by_cholesky(covariance @ basis, fallback=torch.zeros_like(basis))
    signs = (expected * found).sum(-2, keepdim=True).sign()
    torch.testing.assert_close(found * signs, expected, atol=1e-8, rtol=0)
    torch.testing.assert_close(found.mT @ found, torch.eye(30).double().expand(4, 30, 30), atol=1e-10, rtol=0)


def test_dependent_columns_keep_the_old_basis() -> None:
    """Of three matrices, one is zero, one has equal columns, and one is regular."""
    columns = torch.zeros(3, 3, 3, dtype=torch.float64)
    columns[1] = torch.tensor([1.0, 2.0, 3.0])[:, None]
    columns[2] = torch.tensor([[2.0, 0, 0], [0, 0, 3], [0, 1, 0]])
    old = torch.eye(3).expand(3, 3, 3)
    found = orthonormal_by_cholesky(columns, fallback=old)
    torch.testing.assert_close(found[:2], old[:2].double())
    torch.testing.assert_close(found[2], columns[2] / columns[2].norm(dim=0))


def test_soap_is_adam_for_vectors() -> None:
    weight, other = (torch.tensor([1.0, -2.0, 3.0], requires_grad=True) for _ in range(2))
    soap, adam = SOAP([weight], lr=0.1), torch.optim.Adam([other], lr=0.1, betas=(0.95, 0.95))
    for optimizer, vector in ((soap, weight), (adam, other)):
        for _ in range(20):
            optimizer.zero_grad()
            (vector**4).sum().backward()
            optimizer.step()
    torch.testing.assert_close(weight, other)


def schedule_config(**changes: object) -> ScheduleConfig:
    plain = ScheduleConfig(
        kind="plateau", rate=0.01, final_rate=0.0001, max_epochs=1000, mu=0.01, stop_after=5
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_plateau_lowers_the_rate_and_stops() -> None:
    schedule = make_schedule(schedule_config())
    assert not any(schedule.finish_epoch(epoch, loss) for epoch, loss in enumerate([1.0, 0.5, 0.25]))
    assert schedule.rate(3) == 0.01
    schedule.finish_epoch(3, 0.249)  # improves by less than mu
    assert schedule.rate(4) == 0.005
    ends = [schedule.finish_epoch(epoch, 0.3) for epoch in range(4, 9)]
    assert ends == [False] * 4 + [True]
    for epoch in range(20):
        schedule.finish_epoch(epoch, 0.3)
    assert schedule.rate(30) == 0.0001


def test_cosine_falls_from_rate_to_final_rate() -> None:
    schedule = make_schedule(schedule_config(kind="cosine", max_epochs=10, warmup_epochs=2))
    rates = [schedule.rate(epoch) for epoch in range(11)]
    assert rates[0] < rates[1] < rates[2] == 0.01
    assert all(earlier > later for earlier, later in itertools.pairwise(rates[2:]))
    assert rates[-1] == pytest.approx(0.0001)
    assert [schedule.finish_epoch(epoch, 1.0) for epoch in (8, 9)] == [False, True]
