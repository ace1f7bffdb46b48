"""The recurrent network: the same as its reference, fallback to its base, and that it learns from results."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from subpixel.errors import ConfigError
from training_configs import CONFIGS, changed_config

torch = pytest.importorskip("torch")

from test_training_clips import pan, write_clip  # noqa: E402

from history_models import camera, lr_frames, video_model  # noqa: E402
from subpixel.engines.flat import is_flat  # noqa: E402
from subpixel.engines.numpy_history import NumpyHistory  # noqa: E402
from subpixel.evaluation.metrics import psnr_db  # noqa: E402
from subpixel.models import catalog  # noqa: E402
from subpixel.models.history import without_history  # noqa: E402
from subpixel.models.model import Model, ModelMetadata, load_model  # noqa: E402
from subpixel.ops import block_motion as reference  # noqa: E402
from subpixel.ops.pixel_shuffle import pixel_unshuffle  # noqa: E402
from subpixel.training import block_motion  # noqa: E402
from subpixel.training.config_file import load_config  # noqa: E402
from subpixel.training.frames_config import RecurrentConfig  # noqa: E402
from subpixel.training.history_calibration import calibrate_history  # noqa: E402
from subpixel.training.loop import Run  # noqa: E402
from subpixel.training.recurrent_network import RecurrentNetwork, recurrent_spec  # noqa: E402
from subpixel.training.result import finished_model  # noqa: E402
from training_runs import CPU  # noqa: E402

CONFIG = load_config(CONFIGS / "video-x4.toml")
RECURRENT = CONFIG.recurrent
assert RECURRENT is not None


def tensor(frames: list[np.ndarray]) -> torch.Tensor:
    """A sequence ``(1, T, H, W)`` in [0, 1]."""
    return torch.tensor(np.stack(frames) / np.float32(255))[None]


def network(**changes: object) -> RecurrentNetwork:
    model = catalog.find("default-x4")
    config = replace(RECURRENT, **changes)  # type: ignore[arg-type]
    spec = recurrent_spec(CONFIG.network, config, model.spec)
    result = RecurrentNetwork(spec, generator=torch.Generator().manual_seed(1))
    result.load_base(model)
    return result.eval()


def loaded(model: Model) -> RecurrentNetwork:
    result = RecurrentNetwork(model.spec)
    result.load_model(model)
    return result.eval()


def planes(phases: torch.Tensor, scale: int) -> list[np.ndarray]:
    """The results of a sequence ``(1, T * scale**2, H, W)``."""
    return list(torch.nn.functional.pixel_shuffle(phases, scale)[0].numpy())


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("block_px", "range_px", "parts"), [(8, 3, 1), (8, 3, 2), (4, 2, 2)])
def test_motion_and_fit_are_those_of_the_reference(
    scale: int, block_px: int, range_px: int, parts: int
) -> None:
    """Two pairs of frames at once, of a size that is no multiple of the blocks, with noise and flat areas."""
    rng = np.random.default_rng(1)
    frames = [frame[:21, :27].copy() for frame in lr_frames(camera(4, (1, 3), 30 * scale), scale)]
    frames[1][:9, :12] = 40
    frames[3][10:] = rng.integers(0, 256, (11, 27))
    history = video_model(scale, block_px=block_px, range_px=range_px, parts=parts, fit_limit=8).spec.history
    assert history is not None
    before, now = (torch.tensor(np.stack(frames[start::2])).float()[:, None] for start in (0, 1))
    found = block_motion.align(now, before, scale, history)
    for index in range(2):
        expected = reference.align(
            frames[2 * index + 1],
            frames[2 * index],
            parts * scale,
            block_px=block_px,
            range_px=range_px,
            fit_limit=8,
        )
        np.testing.assert_array_equal(found.motion[index], expected.motion)
        np.testing.assert_array_equal(found.levels[index], [expected.detail, expected.residual])
        opened = expected.fits & ~is_flat(frames[2 * index + 1][None])
        np.testing.assert_array_equal(found.opened[index, 0], opened)
    assert 0.1 < found.opened.mean() < 0.9


@pytest.mark.parametrize(
    ("scale", "parts", "bounded", "in_motion"),
    [(2, 2, True, True), (2, 2, True, False), (3, 1, False, True), (3, 2, True, False), (4, 2, False, True)],
)
def test_it_is_the_reference(scale: int, parts: int, bounded: bool, in_motion: bool) -> None:
    """At a size that is no multiple of the blocks, as a sequence and frame by frame; a part has noise."""
    model = video_model(scale, parts=parts, bounded=bounded, bounded_in_motion=in_motion)
    frames = [frame[:21, :27] for frame in lr_frames(camera(4, (1, 3), 30 * scale), scale)]
    rng = np.random.default_rng(1)
    for frame in frames:
        frame[:13] = frames[0][:13] + rng.integers(0, 2, (13, 27), np.uint8)
    expected = list(NumpyHistory(model)(frame / np.float32(255) for frame in frames))
    result = loaded(model)
    with torch.no_grad():
        phases = result(tensor(frames))
        steps = torch.cat(
            list(result.upscale_frames(frame[None, None] for frame in tensor(frames)[0])), dim=1
        )
    np.testing.assert_allclose(planes(steps, scale), expected, atol=2e-6)
    assert torch.allclose(steps, phases) != bounded  # training has no bound
    base = loaded(model).base(tensor(frames)[:, -1:])
    assert (phases[:, -(scale**2) :] - base).abs().max() > 0.02
    assert result.to_model("video-test", ModelMetadata()) == model


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by PyTorch
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # the same
def test_compiled_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its results and gradients. The backend traces and differentiates, and needs no C++ compiler."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    lr = tensor([frame[:21, :27] for frame in lr_frames(camera(3, (1, 3), 120), 4)])
    results, gradients = [], []
    for forward in (RecurrentNetwork.forward, lambda result, lr: result.compiled()(lr)):
        result = loaded(video_model(4, range_px=3)).train()
        result.quantization_levels = 128
        phases = forward(result, lr)
        phases.square().mean().backward()
        results.append(phases)
        gradients.append([one.grad for one in result.parameters() if one.requires_grad])
    torch.testing.assert_close(*results)
    torch.testing.assert_close(*gradients)
    assert all(one.abs().max() > 0 for one in gradients[0])


def test_with_fake_quantization_it_is_close_to_int8() -> None:
    base = catalog.find("fast-x4")
    model = video_model(4, strength=0.5)
    clips = [lr_frames(camera(3, speed, 128), 4) for speed in ((1, 2), (-2, 1), (0, 3), (3, -3))]
    int8 = NumpyHistory(calibrate_history(model, base, clips), precision="int8")
    frames = lr_frames(camera(6, (1, 3), 120), 4)
    expected = list(int8(frames))
    result = loaded(model)
    result.quantization_levels = 256
    with torch.no_grad():
        found = planes(result(tensor(frames)).clamp(0, 1), 4)
    assert psnr_db(np.stack(expected), np.rint(255 * np.stack(found)).astype(np.uint8), shave=0) > 46


def test_untrained_it_is_its_base() -> None:
    lr = tensor(lr_frames(camera(4, (1, 2)), 4))
    result = network()
    with torch.no_grad():
        phases = result(lr)
        expected = torch.cat([result.base(lr[:, time : time + 1]) for time in range(4)], dim=1)
    assert phases.shape == (1, 64, 24, 24)
    torch.testing.assert_close(phases, expected)
    assert result.spec.macs_per_lr_pixel == 16_272 + 9 * (20 * 16 + 16 * 19)


def test_the_base_is_not_trained() -> None:
    lr = tensor(lr_frames(camera(3, (1, 2)), 4))
    result = network().train()
    with torch.no_grad():
        result.convolutions[-1].weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(2))
        result.share.fill_(0.5)
    result(lr).square().mean().backward()
    trained = {id(p) for group in result.parameter_groups(1.0) for p in group["params"]}  # type: ignore[attr-defined]
    for name, parameter in result.named_parameters():
        wanted = not name.startswith("base.")
        assert (id(parameter) in trained) == (parameter.grad is not None) == wanted, name


@pytest.mark.parametrize("levels", [0, 128])
def test_it_learns_from_the_last_results(levels: int) -> None:
    """On a pan by fractions of an LR pixel, where several frames show more than one: above its base."""
    hr = camera(4, (1, 3), 160)
    lr = tensor(lr_frames(hr, 4))
    target = torch.tensor(np.concatenate([pixel_unshuffle(frame[None], 4) for frame in hr]) / 255.0).float()[
        None
    ]
    result = network(range_px=2).train()
    result.quantization_levels = levels
    groups = [parameter for parameter in result.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(groups, 0.003)

    def of_frames() -> np.ndarray:
        with torch.no_grad():
            error = (result(lr) - target)[..., 4:-4, 4:-4].square().view(4, 16, 32, 32).mean((1, 2, 3))
        return -10 * np.log10(error.numpy())

    before = of_frames()
    for _ in range(15):
        loss = (result(lr) - target)[..., 4:-4, 4:-4].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = of_frames()
    assert after[0] == pytest.approx(before[0])
    assert np.all(after[1:] > before[1:] + 0.1) and after[-1] > before[-1] + 0.3


def test_the_command_trains_it(tmp_path: Path) -> None:
    for folder in ("train", "validation", "tests"):
        (tmp_path / folder).mkdir()
    write_clip(tmp_path / "train" / "a.mkv", pan(7, 96, 96))
    write_clip(tmp_path / "validation" / "c.mkv", pan(5, 96, 96)[:, :, ::-1])
    write_clip(tmp_path / "tests" / "d.mkv", np.roll(pan(3, 96, 96), 40, axis=1))
    assert CONFIG.clips is not None
    config = replace(
        CONFIG,
        recurrent=RecurrentConfig("default-x4", 4, frames=4),
        network=replace(CONFIG.network, widths=(8,)),
        clips=replace(CONFIG.clips, folder="train", halved=(), held_out=("tests",), stills=0),
        patches=replace(CONFIG.patches, side_px=24, batch=2, batches_per_epoch=3),
        schedule=replace(CONFIG.schedule, max_epochs=1, warmup_epochs=0),
        validation=replace(CONFIG.validation, folder="validation", every_epochs=1),
    )
    run = Run(config, tmp_path, tmp_path / "run", CPU)
    base_db = run.validate()
    run.train()
    assert run.validate() > base_db - 0.1
    model = finished_model(run, CONFIGS / "video-x4.toml")
    assert isinstance(model, Model) and len(model.quantized) == len(model.spec.convolutions)
    model.save(tmp_path / "model.safetensors")
    found = load_model(tmp_path / "model.safetensors")
    lr = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)).mul(255).round().div(255)
    with torch.no_grad():
        torch.testing.assert_close(loaded(found)(lr), run.average(lr))
    sequence = lr_frames(camera(4, (1, 3), 128), 4)
    exact, rounded = (list(NumpyHistory(found, precision=one)(sequence)) for one in ("fp32", "int8"))
    assert psnr_db(exact[-1], rounded[-1], shave=0) > 40
    assert without_history(found).weights.keys() == catalog.find("default-x4").weights.keys()
    (large,) = NumpyHistory(found)(pan(1, 40, 40))
    assert large.shape == (160, 160) and large.dtype == np.uint8


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\nframes = 12", "\nframes = 0", "recurrent.frames must be positive"),
        ('kind = "recurrent"', 'kind = "frames"', '"frames" needs [frames]'),
        ("\nframes = 12", "\nframes = 70", "must be at least 70"),
    ],
)
def test_wrong_configs_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(changed_config("video-x4", {old: new}, tmp_path / "wrong.toml"))
    assert message in str(error.value)


def test_a_base_of_another_scale_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not upscale single luma planes x4"):
        recurrent_spec(CONFIG.network, RECURRENT, catalog.find("default-x2").spec)
