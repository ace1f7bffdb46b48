"""Networks over several frames: what they see, what they cost, and that they learn and resume."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image
from typer.testing import CliRunner

from subpixel.cli import app
from subpixel.errors import ConfigError, ModelError
from training_configs import CONFIGS, changed_config

torch = pytest.importorskip("torch")

from test_training_clips import pan, write_clip  # noqa: E402
from torch import nn  # noqa: E402

from subpixel.evaluation.clips import luma_planes  # noqa: E402
from subpixel.evaluation.protocol import lr_plane  # noqa: E402
from subpixel.models.model import ModelMetadata  # noqa: E402
from subpixel.training.config import NetworkConfig, TrainingConfig  # noqa: E402
from subpixel.training.config_file import load_config, stored_config  # noqa: E402
from subpixel.training.frames_config import FramesConfig  # noqa: E402
from subpixel.training.frames_file import load_frames_model  # noqa: E402
from subpixel.training.frames_network import FramesNetwork  # noqa: E402
from subpixel.training.loop import Run  # noqa: E402
from subpixel.training.motion import MotionCompensation, huber, warp  # noqa: E402
from training_runs import CPU, trained  # noqa: E402

WIDTHS = (12, 12, 12, 24, 24)
NETWORK = NetworkConfig("frames", 4, "relu", WIDTHS, residual="nearest", initialization="lecun")
FORMS = [
    FramesConfig(1),
    FramesConfig(3),
    FramesConfig(5),
    FramesConfig(3, "slow"),
    FramesConfig(5, "slow"),
    FramesConfig(3, "3d"),
    FramesConfig(5, "3d"),
    FramesConfig(3, "early", "transformer"),
    FramesConfig(5, "slow", "transformer"),
]


def name_of(frames: FramesConfig) -> str:
    return f"{frames.fusion}-{frames.count}" + ("-motion" if frames.motion != "none" else "")


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("frames", FORMS, ids=name_of)
def test_shapes_costs_and_gradients(frames: FramesConfig) -> None:
    """The cost is that of the convolutions that PyTorch runs, counted by hooks on a frame of 24x20 pixels."""
    network = FramesNetwork(NETWORK, frames, seeded()).train()
    counted = 0

    def count(layer: nn.Conv2d, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal counted
        counted += len(output) * output[0, 0].numel() * layer.weight.numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)  # type: ignore[arg-type]
    lr = torch.rand(2, frames.count, 24, 20, generator=seeded())
    phases = network(lr)
    assert phases.shape == (2, 16, 24, 20)
    assert counted / (2 * 24 * 20) == pytest.approx(network.macs_per_lr_pixel, rel=1e-9)
    loss = phases.square().mean()
    if network.regularization is not None:
        loss = loss + network.regularization
    assert (network.regularization is None) == (frames.motion == "none")
    loss.backward()
    for name, parameter in network.named_parameters():
        # The last layers of motion start as zero, and what is before them learns from the next step on.
        if not name.startswith("motion") or ".8." in name:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_costs_are_equal_but_for_the_frames_in_the_first_layers() -> None:
    single, early, slow, shared = (
        FramesNetwork(NETWORK, form).macs_per_lr_pixel for form in (*FORMS[:2], FORMS[3], FORMS[5])
    )
    assert single == 9 * (12 + 12 * 12 * 2 + 12 * 24 + 24 * 24 + 24 * 16)
    assert early == single + 9 * 2 * 12
    assert slow == shared == single + 9 * (2 * 2 * 6 - 12)  # two times of 6 channels, each of two frames
    assert FramesNetwork(NETWORK, FORMS[7]).macs_per_lr_pixel - early == 2 * (
        (2 * 25 * 24 + 9 * 24 * 24) / 4
        + (25 * 24 * 24 + 9 * 24 * 24 + 9 * 24 * 32) / 16
        + (5 * 25 * 24 + 3 * 9 * 24 * 24 + 9 * 24 * 8) / 4
    )


def test_shared_weights_are_a_3d_convolution() -> None:
    network = FramesNetwork(NETWORK, FramesConfig(5, "3d"), seeded())
    values = torch.rand(1, 5, 8, 8, generator=seeded())
    layer = network.layers[0]
    convolution = layer.convolutions[0]
    assert isinstance(convolution, nn.Conv2d)
    kernel = convolution.weight.view(3, 2, 1, 3, 3).transpose(1, 2)  # outputs, inputs, times, rows, columns
    expected = nn.functional.conv3d(values[:, None], kernel, convolution.bias, padding=(0, 1, 1))
    torch.testing.assert_close(layer(values), expected.transpose(1, 2).flatten(1, 2))
    assert len(network.layers[1].convolutions) == 1
    assert len(FramesNetwork(NETWORK, FramesConfig(5, "slow")).layers[0].convolutions) == 4


@pytest.mark.parametrize("motion", ["none", "transformer"])
@pytest.mark.parametrize("count", [3, 5])
def test_without_the_other_frames_it_is_the_single_frame_network(count: int, motion: str) -> None:
    several = FramesNetwork(NETWORK, FramesConfig(count, "early", motion), seeded())  # type: ignore[arg-type]
    single = FramesNetwork(NETWORK, FramesConfig(1))
    weights = {name: value for name, value in several.state_dict().items() if not name.startswith("motion")}
    first = "layers.0.convolutions.0.weight"
    middle = count // 2
    lr = torch.rand(1, count, 16, 16, generator=seeded())

    single.load_state_dict(weights | {first: weights[first].sum(1, keepdim=True)})
    still = lr[:, :1]  # identity motion: with no flow, moved frames are the frames
    torch.testing.assert_close(several(still.repeat(1, count, 1, 1)), single(still))

    with torch.no_grad():
        for time in set(range(count)) - {middle}:
            several.layers[0].convolutions[0].weight[:, time] = 0
    single.load_state_dict(weights | {first: weights[first][:, middle : middle + 1]})
    torch.testing.assert_close(several(lr), single(lr[:, middle : middle + 1]))


def test_warping_reads_where_the_flow_points() -> None:
    image = torch.tensor(skimage.data.camera()[:40, 200:260] / 255.0).float()[None, None]
    flow = torch.zeros(1, 2, 40, 60)
    torch.testing.assert_close(warp(image, flow), image)
    flow[:, 0], flow[:, 1] = 3, -2  # to the right and up
    torch.testing.assert_close(warp(image, flow)[..., 2:, :-3], image[..., :-2, 3:])
    assert torch.equal(warp(image, flow)[..., :2, 0], image[..., :1, 3].expand(1, 1, 2))  # the edge continues
    flow[:, 0], flow[:, 1] = 0.25, 0
    expected = 0.75 * image[..., :-1] + 0.25 * image[..., 1:]
    torch.testing.assert_close(warp(image, flow)[..., :-1], expected)


def test_the_huber_term_is_that_of_the_paper() -> None:
    flow = torch.zeros(1, 2, 5, 6)
    assert huber(flow) == pytest.approx(0.1)
    flow[:, 0] = torch.arange(6) * 3  # sqrt(0.01 + 9)
    flow[:, 1] = torch.arange(5)[:, None] * 4
    assert huber(flow) == pytest.approx(np.sqrt(0.01 + 9 + 16))


def test_motion_learns_a_shift() -> None:
    """On a camera that pans by (1, -2) pixels, by the terms of motion alone; odd sides."""
    image = skimage.data.camera()[100:300, 150:350].astype(np.float32) / 255
    smooth = torch.tensor(image)[None, None]
    smooth = nn.functional.avg_pool2d(smooth, 4)
    frame, other = smooth[..., 1:42, 4:45], smooth[..., 0:41, 6:47]  # other(x + 2... ) shows frame(x)
    torch.manual_seed(2)
    motion = MotionCompensation(4.0)
    optimizer = torch.optim.Adam(motion.parameters(), 0.003)
    for _ in range(150):
        moved, flow = motion(frame, other)
        loss = (moved - frame).square().mean() + 1e-4 * huber(flow)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert moved.shape == frame.shape and flow.shape == (1, 2, 41, 41)
    before = (other - frame).square().mean()
    assert (moved - frame).square().mean() < 0.1 * before
    found = flow[0, :, 8:-8, 8:-8].mean((1, 2)).detach().numpy()
    np.testing.assert_allclose(found, [-2, 1], atol=0.4)


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("length", [1, 2, 4, 7])
def test_each_frame_of_a_clip_is_upscaled_among_its_neighbors(count: int, length: int) -> None:
    network = FramesNetwork(NETWORK, FramesConfig(count), seeded()).eval()
    clip = torch.rand(length, 1, 1, 8, 8, generator=seeded())
    results = list(network.upscale_frames(iter(clip)))
    assert len(results) == length
    for time, result in enumerate(results):
        window = [min(max(time + step, 0), length - 1) for step in range(-(count // 2), count // 2 + 1)]
        torch.testing.assert_close(result, network(clip[window].view(1, count, 8, 8)))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data sets with two clips to train on, one for validation, and a picture."""
    root = tmp_path_factory.mktemp("datasets")
    for folder in ("train", "validation", "tests", "photos"):
        (root / folder).mkdir()
    write_clip(root / "train" / "a.mkv", pan(7, 96, 96))
    write_clip(root / "train" / "b.mkv", pan(7, 96, 120, 1)[:, ::-1])
    write_clip(root / "validation" / "c.mkv", pan(5, 96, 96)[:, :, ::-1])
    write_clip(root / "tests" / "d.mkv", np.roll(pan(3, 96, 96), 40, axis=1))
    Image.fromarray(skimage.data.coffee()).save(root / "photos" / "coffee.png")
    return root


@pytest.fixture
def small(tmp_path: Path) -> TrainingConfig:
    """The config of `frames-x4`, shortened to a few seconds."""
    config = load_config(CONFIGS / "frames-x4.toml")
    assert config.clips is not None
    return replace(
        config,
        network=replace(config.network, widths=(8, 8, 8)),
        clips=replace(
            config.clips,
            folder="train",
            halved=(),
            held_out=("tests",),
            stills=2,
            still_frames=5,
            still_side_px=20,
            validation_frames=3,
        ),
        data=replace(config.data, folders=("photos",)),
        patches=replace(config.patches, side_px=18, batch=4, batches_per_epoch=8),
        schedule=replace(config.schedule, max_epochs=2, warmup_epochs=0, rate=0.003),
        validation=replace(config.validation, folder="validation", every_epochs=1),
    )


@pytest.mark.parametrize("frames", [FORMS[1], FORMS[3], FORMS[5], FORMS[7]], ids=name_of)
def test_each_form_learns(frames: FramesConfig, small: TrainingConfig, clips: Path, tmp_path: Path) -> None:
    config = replace(small, frames=frames, optimizer=replace(small.optimizer, ema=0.9))
    run = Run(config, clips, tmp_path, CPU)
    before = run.validate()
    run.train()
    assert run.validate() > before + 0.3


def test_a_resumed_run_gives_the_same_weights(small: TrainingConfig, clips: Path, tmp_path: Path) -> None:
    config = replace(small, frames=FORMS[7])
    whole = trained(config, clips, tmp_path / "whole")
    first = Run(config, clips, tmp_path / "parts", CPU)
    first.folder.mkdir()
    first._epoch(0)
    first.next_epoch = 1
    first._save()
    resumed = trained(config, clips, tmp_path / "parts", resume=True)
    for name, value in whole.average.state_dict().items():
        torch.testing.assert_close(resumed.average.state_dict()[name], value, rtol=0, atol=0)


def test_the_command_trains_and_the_file_upscales_clips(clips: Path, tmp_path: Path) -> None:
    config = changed_config(
        "frames-x4",
        {
            '"video_train/train"': '"train"',
            '["video", "video_train/validation"]': '["tests"]',
            '"video_train/validation"': '"validation"',
            "[24, 24, 24, 24, 24, 24]": "[6, 6]",
            "stills = 200": "stills = 0",
            '["BSDS500/train", "T91"]': "[]",
            "batches_per_epoch = 500": "batches_per_epoch = 2",
            "side_px = 32": "side_px = 16",
            "max_epochs = 40": "max_epochs = 1",
            "every_epochs = 20": "every_epochs = 1",
        },
        tmp_path / "small.toml",
    )
    text = config.read_text()
    start, end = text.index("halved = ["), text.index("]\n\n[data]")
    config.write_text(text[:start] + text[end + 2 :])
    arguments = [str(config), "--datasets", str(clips), "-o", str(tmp_path / "run"), "--device", "cpu"]
    result = CliRunner().invoke(app, ["train", *arguments])
    assert result.exit_code == 0, result.stderr
    assert "2 clips and 0 moving stills, 2 batches per epoch" in result.stderr
    model = load_frames_model(tmp_path / "run" / "frames-x4.safetensors")
    assert (model.name, model.scale, model.metadata.training_data[:8]) == ("frames-x4", 4, "29 clips")
    planes = [plane.copy() for plane in luma_planes(clips / "validation" / "c.mkv")]
    results = list(model(planes))
    assert len(results) == 5 and results[0].shape == (384, 384) and results[0].dtype == np.uint8
    assert np.abs(results[2][::4, ::4].astype(int) - planes[2]).mean() < 20
    file = tmp_path / "run" / "frames-x4.safetensors"
    evaluated = CliRunner().invoke(
        app, ["evaluate", str(clips / "validation" / "c.mkv"), "-m", str(file), "--json"]
    )
    assert evaluated.exit_code == 0, evaluated.stderr
    report = json.loads(evaluated.stdout)
    assert (report["model"], report["engine"], report["scale"]) == ("frames-x4", "torch", 4)
    results = model(lr_plane(plane, 4) for plane in planes)
    hr, sr = (np.stack(list(one))[:, 4:-4, 4:-4] for one in (planes, results))
    errors = np.square(hr.astype(float) - sr).mean((1, 2))
    expected = 10 * np.log10(255**2 / errors)
    assert report["clips"][0]["each_frame"]["psnr_db"] == pytest.approx(expected.tolist(), abs=1e-6)
    refused = CliRunner().invoke(app, ["evaluate", str(clips), "-m", str(file), "-s", "3"])
    assert refused.exit_code == 2 and "upscales x4, not x3" in refused.stderr
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"broken\.safetensors: not a readable network"):
        load_frames_model(broken)


def test_a_saved_network_is_the_same(tmp_path: Path) -> None:
    network = FramesNetwork(NETWORK, FORMS[8], seeded()).eval()
    model = network.to_model("some", ModelMetadata(version="3"))
    model.save(tmp_path / "some.safetensors")
    loaded = load_frames_model(tmp_path / "some.safetensors")
    assert loaded.metadata == model.metadata
    lr = torch.rand(1, 5, 12, 12, generator=seeded())
    torch.testing.assert_close(loaded.network(lr), network(lr), rtol=0, atol=0)  # type: ignore[operator]


def test_training_on_a_test_clip_is_refused(small: TrainingConfig, clips: Path, tmp_path: Path) -> None:
    assert small.clips is not None
    for clip in (replace(small.clips, held_out=("train",)), replace(small.clips, folder="validation")):
        with pytest.raises(ConfigError, match="which is not for training"):
            Run(replace(small, clips=clip), clips, tmp_path, CPU)


def test_configs_without_frames_are_stored_as_before() -> None:
    config = load_config(CONFIGS / "default-x4.toml")
    assert '"frames"' not in stored_config(config) and '"clips"' not in stored_config(config)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("count = 3", "count = 2", "frames.count must be odd and positive, not 2"),
        ('motion = "none"', 'motion = "transformer"', ""),
        ('"early"', '"late"', "frames.fusion must be one of 'early', 'slow', '3d'"),
        ('fusion = "early"', 'fusion = "slow"', ""),
        ("[24, 24, 24, 24, 24, 24]", "[]", "needs network.widths"),
        ('kind = "frames"', 'kind = "stack"', '"stack" has no [frames]'),
        ("still_share = 0.3", "still_share = 1.3", "clips.still_share must be 0 to 1, not 1.3"),
        ("frames = 60", "frames = 2", "clips.frames and clips.still_frames must be at least 3"),
        ('"lecun"', '"fitted"', 'needs network.initialization = "lecun"'),
        ('drawn_by = "image"', "", 'drawn_by = "image"'),
        ("[optimizer]", "[quantization]\nlevels = 128\n[optimizer]", "not support quantization.levels"),
        ("motion_range_px = 8", "motion_range_px = 0", "motion_range_px must be positive"),
    ],
)
def test_wrong_configs_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = changed_config("frames-x4", {old: new}, tmp_path / "wrong.toml")
    if not message:
        load_config(path)
        return
    with pytest.raises(ConfigError, match=r"wrong\.toml: ") as error:
        load_config(path)
    assert message in str(error.value)


def test_channels_must_divide_among_the_times(tmp_path: Path) -> None:
    changes = {"count = 3": "count = 5", '"early"': '"slow"', "[24, 24, 24, 24, 24, 24]": "[10, 24, 24, 24]"}
    with pytest.raises(ConfigError, match="10 channels cannot be divided among 4 times"):
        load_config(changed_config("frames-x4", changes, tmp_path / "a.toml"))
    changes["[24, 24, 24, 24, 24, 24]"] = "[24, 24, 24]"
    with pytest.raises(ConfigError, match=r"needs at least 4 network\.widths"):
        load_config(changed_config("frames-x4", changes, tmp_path / "b.toml"))
    changes = {"count = 3": "count = 1", 'motion = "none"': 'motion = "transformer"'}
    with pytest.raises(ConfigError, match=r"frames\.motion needs frames\.count of at least 3"):
        load_config(changed_config("frames-x4", changes, tmp_path / "c.toml"))
