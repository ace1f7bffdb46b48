"""Protocols, compression, temporal consistency and VMAF of clips, compared with other programs."""

import json
import subprocess

import av
import numpy as np
import pytest
from scipy import ndimage
from skimage import data
from typer.testing import CliRunner

from history_models import video_model
from subpixel.cli import app
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.engines.numpy_history import NumpyHistory
from subpixel.errors import EngineError
from subpixel.evaluation import protocol, vmaf
from subpixel.evaluation.clips import luma_planes
from subpixel.evaluation.compression import through_h264
from subpixel.evaluation.methods import find_method
from subpixel.evaluation.protocol import Degradation, lr_plane
from subpixel.evaluation.temporal import FARNEBACK, TemporalMeter, pooled
from subpixel.evaluation.video import ClipProtocol, ClipSetup, evaluate_clip, evaluate_frames
from subpixel.evaluation.vmaf import VmafMeter
from subpixel.models.catalog import find
from subpixel.models.history import without_history
from test_evaluate_video import compared, write_y4m
from video_files import ffmpeg

HEIGHT, WIDTH, FRAMES = 96, 120, 6


@pytest.fixture
def planes():
    """Luma of a camera that moves by 3 pixels down and 2 to the right with each frame."""
    image = data.camera()
    return np.stack([image[3 * n : 3 * n + HEIGHT, 150 + 2 * n : 150 + 2 * n + WIDTH] for n in range(FRAMES)])


@pytest.fixture
def clip(tmp_path, planes):
    return write_y4m(tmp_path / "clip.y4m", planes)


def as_json(*arguments):
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("name", "border", "ends"), [("image", 4, 0), ("full-frame", 0, 0), ("vespcn", 8, 2)]
)
def test_protocols_compare_their_pixels_and_frames(clip, planes, name, border, ends):
    report = as_json(clip, "-m", "bicubic", "-s", 4, "--protocol", name)
    results = [protocol.bicubic(4)(lr_plane(plane, 4)) for plane in planes]
    scores = [compared(hr, sr, border) for hr, sr in zip(planes, results, strict=True)][ends : FRAMES - ends]
    (measured,) = report["clips"]
    assert report["protocol"] == name and measured["frames"] == FRAMES - 2 * ends
    assert measured["each_frame"]["psnr_db"] == pytest.approx([one[0] for one in scores], abs=1e-9)
    assert measured["each_frame"]["ssim"] == pytest.approx([one[1] for one in scores], abs=1e-9)
    assert measured["psnr_db"] == pytest.approx(np.mean(scores, axis=0)[0], abs=1e-9)


def test_full_frame_psnr_is_that_of_ffmpegs_filter(tmp_path, clip, planes):
    scores = evaluate_clip(clip, protocol.bicubic(2), ClipSetup(2, protocol=ClipProtocol("full-frame")))
    results = np.stack([protocol.bicubic(2)(lr_plane(plane, 2)) for plane in planes])
    enlarged = write_y4m(tmp_path / "enlarged.y4m", results)
    measure = ("-lavfi", "psnr=stats_file=-", "-f", "null", "-")
    lines = ffmpeg("-i", enlarged, "-i", clip, *measure).decode()
    expected = [float(word[7:]) for word in lines.split() if word.startswith("psnr_y:")]
    assert [round(one.psnr_db, 2) for one in scores.model] == expected


def test_bd_is_the_blur_of_scipy_and_the_first_pixel_of_each_block(planes):
    blurred = ndimage.gaussian_filter(planes[0] / 255, 1.6, mode="nearest", truncate=4)
    np.testing.assert_allclose(Degradation("bd")(planes[0], 4), blurred[::4, ::4], atol=1e-12)


def test_compressed_lr_is_what_x264_makes_of_the_sequence(tmp_path, clip, planes):
    """The frames that the model is given, beside those of FFmpeg's program with the same settings."""
    given = []
    evaluate_clip(clip, lambda lr: given.append(lr) or protocol.bicubic(2)(lr), ClipSetup(2, crf=23))
    lr = np.stack([lr_plane(plane, 2) for plane in planes])
    source, encoded = write_y4m(tmp_path / "lr.y4m", lr), tmp_path / "lr.mkv"
    with av.open(str(source)) as container:  # gray chroma, as ours has
        frames = [frame.to_ndarray()[: frame.height] for frame in container.decode(video=0)]
    np.testing.assert_array_equal(frames, lr)
    assert np.abs(np.stack(given).astype(int) - lr).max() > 3
    encoder = ("-c:v", "libx264", "-crf", 23, "-x264-params", "no-mbtree=1")
    ffmpeg("-i", source, "-vf", "lutyuv=u=128:v=128", *encoder, encoded)
    theirs = np.stack([plane.copy() for plane in luma_planes(encoded)])
    ours, theirs = (np.square(one.astype(float) - lr).mean() for one in (np.stack(given), theirs))
    assert ours == pytest.approx(theirs, rel=0.1)  # its x264 is another version
    report = as_json(clip, "-m", "bicubic", "-s", 2, "--crf", 23)
    assert report["crf"] == 23
    np.testing.assert_array_equal(given, through_h264(list(lr), 23))


def test_models_with_a_state_see_the_frames_in_order_and_may_look_ahead(clip, planes):
    def delayed(lr_planes):
        """Upscale each frame only when the next one was seen."""
        held = []
        for lr in lr_planes:
            held.append(lr)
            if len(held) > 1:
                yield protocol.bicubic(2)(held.pop(0))
        yield protocol.bicubic(2)(held.pop(0))

    assert evaluate_frames(clip, delayed, ClipSetup(2)) == evaluate_clip(
        clip, protocol.bicubic(2), ClipSetup(2)
    )
    with pytest.raises(ValueError, match="shorter"):
        evaluate_frames(clip, lambda lr: iter([protocol.bicubic(2)(next(lr))]), ClipSetup(2))


def test_a_network_for_video_is_measured_with_its_history(tmp_path, clip):
    model = video_model(2)
    model.save(tmp_path / "video.safetensors")
    report = as_json(clip, "-m", tmp_path / "video.safetensors")
    assert report["engine"] == "numpy" and report["precision"] == "fp32"
    expected = evaluate_frames(clip, NumpyHistory(model), ClipSetup(2))
    assert report["mean"]["psnr_db"] == pytest.approx(expected.mean.model.psnr_db, abs=0.01)
    single = evaluate_clip(clip, NumpyEngine(without_history(model)), ClipSetup(2))
    assert expected.model[0] == single.model[0] and expected.model[-1] != single.model[-1]


def test_without_history_the_base_is_measured_with_a_note(clip):
    pytest.importorskip("onnxruntime")
    result = CliRunner().invoke(
        app, ["evaluate", str(clip), "-m", "video-x2", "--engine", "onnxruntime", "--json"]
    )
    report = json.loads(result.stdout)
    assert (report["model"], report["engine"]) == ("video-x2 without history", "onnxruntime")
    assert "note: video-x2 upscales each frame by itself, with the result of best-x2: " in result.stderr
    base = as_json(clip, "-m", "best-x2", "--engine", "onnxruntime")
    assert report["mean"] == base["mean"]


def test_a_packaged_network_for_video_is_measured_in_int8(clip):
    report = as_json(clip, "-m", "video-x2")
    assert report["engine"] == "native" and report["precision"] == "int8"
    expected = evaluate_frames(clip, NumpyHistory(find("video-x2"), precision="int8"), ClipSetup(2))
    assert report["mean"]["psnr_db"] == pytest.approx(expected.mean.model.psnr_db, abs=1e-3)
    single = find_method("best-x2")
    assert evaluate_clip(clip, single.upscale, ClipSetup(2)).model[0] == expected.model[0]


def flickering(planes, level):
    return [
        np.clip(plane.astype(int) + level * (-1) ** n, 0, 255).astype(np.uint8)
        for n, plane in enumerate(planes)
    ]


def test_the_warping_error_of_a_moving_clip_is_that_of_its_flicker(planes):
    """HR moves by whole pixels, so the flow explains it, and what is left is what the result adds."""
    pytest.importorskip("cv2")
    calm, loud = TemporalMeter(8), TemporalMeter(8)
    for hr, sr in zip(planes, flickering(planes // 2 + 60, 3), strict=True):
        calm.add(hr // 2 + 60, hr // 2 + 60)
        loud.add(hr // 2 + 60, sr)
    assert len(loud.pairs) == FRAMES - 1
    calm, loud = pooled(calm.pairs), pooled(loud.pairs)
    assert calm.warping_error == calm.hr_warping_error == loud.hr_warping_error
    assert calm.tof_px == 0
    assert calm.hr_warping_error < 0.2 * (6 / 255) ** 2
    assert loud.warping_error - calm.warping_error == pytest.approx((6 / 255) ** 2, rel=0.1)


def test_flicker_is_the_change_of_the_error_where_hr_is_static(planes):
    pytest.importorskip("cv2")
    hr = np.repeat(planes[:1] // 2 + 60, 4, axis=0)
    hr[:, :, 60:] += np.array([0, 9, 0, 9], np.uint8)[:, None, None]  # the right half is not static
    meter = TemporalMeter(0)
    for one, sr in zip(hr, flickering(hr, 2), strict=True):
        meter.add(one, sr)
    scores = pooled(meter.pairs)
    assert scores.flicker == 4.0
    assert scores.static_share == pytest.approx((60 - 8) / WIDTH)


def test_tof_is_the_difference_of_opencvs_flows(planes):
    cv2 = pytest.importorskip("cv2")
    results = [protocol.bicubic(4)(lr_plane(plane, 4)) for plane in planes[:2]]
    meter = TemporalMeter(4)
    for hr, sr in zip(planes, results, strict=False):
        meter.add(hr, sr)
    hr_flow, sr_flow = (
        cv2.calcOpticalFlowFarneback(*pair, None, *FARNEBACK) for pair in (planes[:2], results)
    )
    expected = np.hypot(*np.moveaxis(hr_flow - sr_flow, -1, 0))[4:-4, 4:-4].mean()
    assert pooled(meter.pairs).tof_px == pytest.approx(expected, rel=1e-5) and expected > 0.01


def ffmpeg_with_vmaf():
    try:
        return vmaf._ffmpeg()
    except EngineError as error:
        pytest.skip(str(error))


def test_vmaf_is_that_of_ffmpegs_command(tmp_path, clip, planes):
    program = ffmpeg_with_vmaf()
    results = np.stack([protocol.bicubic(2)(lr_plane(plane, 2)) for plane in planes])
    enlarged = write_y4m(tmp_path / "enlarged.y4m", results)
    expected = {}
    for name, version in (("vmaf", "vmaf_v0.6.1"), ("vmaf_neg", "vmaf_v0.6.1neg")):
        command = [program, "-i", enlarged, "-i", clip, "-lavfi", f"libvmaf=model=version={version}"]
        done = subprocess.run([*command, "-f", "null", "-"], capture_output=True, text=True, check=True)
        expected[name] = float(done.stderr.split("VMAF score: ")[1].split()[0])
    report = as_json(clip, "-m", "bicubic", "-s", 2, "--vmaf", "--temporal")
    (measured,) = report["clips"]
    assert {name: measured[name] for name in expected} == pytest.approx(expected, abs=1e-4)
    assert expected["vmaf_neg"] < expected["vmaf"] < 99
    assert measured["tof_px"] > 0 and measured["flicker"] > 0  # the sky is static
    table = CliRunner().invoke(app, ["evaluate", str(clip), "-m", "bicubic", "-s", "2", "--vmaf"]).stdout
    assert "VMAF-NEG" in table and f"{expected['vmaf']:.2f}" in table and "tOF" not in table


def test_an_ffmpeg_without_libvmaf_is_named(tmp_path, monkeypatch):
    pytest.importorskip("imageio_ffmpeg")
    other = tmp_path / "ffmpeg"
    other.write_text("#!/bin/sh\necho ' psnr '\n")
    other.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(other))
    with pytest.raises(EngineError, match="ffmpeg: has no libvmaf"):
        VmafMeter()
