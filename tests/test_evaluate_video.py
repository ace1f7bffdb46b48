"""Evaluation on video, compared with NumPy and scikit-image on the planes that the tests wrote."""

import itertools
import json
import math
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from typer.testing import CliRunner

from subpixel.cli import app
from subpixel.errors import DatasetError
from subpixel.evaluation import protocol
from subpixel.evaluation.clips import find_clips, luma_planes
from subpixel.evaluation.protocol import Scores
from subpixel.evaluation.video import ClipScores, ClipSetup, MeanScores, evaluate_clip, mean_of_clips
from subpixel.models.model import Model
from subpixel.models.spec import Convolution, ModelSpec
from subpixel.ops.color import luma_8bit
from subpixel.ops.resize import imresize

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT = 46, 34
FRAMES = 3
SIZE = f"{WIDTH}x{HEIGHT}"


@pytest.fixture
def planes():
    """Luma of a clip, ``(frames, H, W)``, over the full range, with a different image in each frame."""
    image = data.camera()
    return np.stack([image[40 * n : 40 * n + HEIGHT, 200 : 200 + WIDTH] for n in range(3, 3 + FRAMES)])


def frames_of(planes, format="yuv420p"):
    """Frames with this luma, and with chroma that differs from all luma."""
    for number, luma in enumerate(planes):
        frame = av.VideoFrame(luma.shape[1], luma.shape[0], format)
        for index, plane in enumerate(frame.planes):
            rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size).view(luma.dtype)
            rows[: plane.height, : plane.width] = luma if index == 0 else 10 + index
        frame.pts = number
        yield frame


def write(path, frames, codec="ffv1"):
    """Write frames losslessly."""
    frames = list(frames)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = frames[0].width, frames[0].height
        stream.pix_fmt = frames[0].format.name
        for frame in frames:
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_y4m(path, planes):
    height, width = planes.shape[1:]
    chroma = bytes([11]) * (2 * -(-width // 2) * -(-height // 2))
    frames = b"".join(b"FRAME\n" + plane.tobytes() + chroma for plane in planes)
    path.write_bytes(f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C420jpeg\n".encode() + frames)
    return path


def write_yuv(path, planes):
    height, width = planes.shape[1:]
    chroma = bytes([11]) * (2 * -(-width // 2) * -(-height // 2))
    path.write_bytes(b"".join(plane.tobytes() + chroma for plane in planes))
    return path


def decode_errors(path, number):
    """Overwrite a frame in a file with zeros."""
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    content = path.read_bytes()
    assert content.count(packets[number]) == 1
    path.write_bytes(content.replace(packets[number], bytes(len(packets[number]))))


def silence():
    sound = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.int16), "s16", "mono")
    sound.rate = 8000
    return sound


def rounded(samples):
    return np.clip(np.floor(samples * 255 + 0.5), 0, 255).astype(np.uint8)


def expected(planes, scale, upscale=None):
    """PSNR and SSIM of each frame by scikit-image, of bicubic unless another method is given."""
    results = []
    for plane in planes:
        height, width = (side - side % scale for side in plane.shape)
        hr = plane[:height, :width]
        lr = rounded(imresize(hr / 255, 1 / scale))
        sr = rounded(imresize(lr / 255, scale)) if upscale is None else upscale(lr)
        results.append(compared(hr, sr, scale))
    return np.array(results)


def compared(hr, sr, border):
    height, width = hr.shape
    x, y = (plane[border : height - border, border : width - border] for plane in (hr, sr))
    psnr_db = peak_signal_noise_ratio(x, y, data_range=255)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return psnr_db, structural_similarity(x, y, data_range=255, **options)


def expected_db(planes, scale, upscale=None):
    """The mean PSNR of frames."""
    return expected(planes, scale, upscale)[:, 0].mean()


def repeat(plane):
    """The result of the network in the fixture `model`."""
    return np.kron(np.minimum(plane, 253), np.ones((3, 3), np.uint8)) + np.uint8(2)


@pytest.fixture
def model(tmp_path):
    """A network that repeats each pixel 3 x 3 times, and adds 2 to it."""
    weights = np.zeros((9, 1, 3, 3), np.float32)
    weights[:, 0, 1, 1] = 1
    arrays = {"layers.0.weight": weights, "layers.0.bias": np.full(9, 2 / 255, np.float32)}
    file = tmp_path / "repeat.safetensors"
    Model("repeat-x3", ModelSpec(3, (Convolution(1, 9, 3),)), arrays).save(file)
    return file


def run(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def as_json(*arguments):
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout)


def message_of(result):
    return " ".join(result.stderr.replace("│", " ").split())


KEYS = ("psnr_db", "ssim", "bicubic_psnr_db", "bicubic_ssim")


def as_keys(ours, bicubic):
    """Scores in the form of the JSON, within rounding."""
    return {key: pytest.approx(value, abs=1e-9) for key, value in zip(KEYS, (*ours, *bicubic), strict=True)}


def test_json_is_the_documented_object(tmp_path, planes, model):
    one = write_y4m(tmp_path / "one.y4m", planes)
    two = write(tmp_path / "two.mkv", frames_of(planes[:1]))
    report = as_json(one, two, "-m", model, "--engine", "numpy")
    ours, bicubic = expected(planes, 3, repeat), expected(planes, 3)
    assert np.abs(ours[0] - ours.mean(0)).min() > 0.01  # so the frames can be told apart
    assert report == {
        "dataset": "video",
        "scale": 3,
        "model": "repeat-x3",
        "engine": "numpy",
        "precision": "fp32",
        "degradation": "bicubic",
        "protocol": "image",
        "clips": [
            {
                "name": name,
                "frames": count,
                **as_keys(ours[:count].mean(0), bicubic[:count].mean(0)),
                "each_frame": as_keys(ours[:count].T.tolist(), bicubic[:count].T.tolist()),
            }
            for name, count in (("one.y4m", FRAMES), ("two.mkv", 1))
        ],
        "mean": as_keys((ours.mean(0) + ours[0]) / 2, (bicubic.mean(0) + bicubic[0]) / 2),
    }


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_all_kinds_of_files_give_the_same_scores(tmp_path, planes, scale):
    """Also if the sides are not multiples of the scale."""
    files = [
        write_y4m(tmp_path / "a.y4m", planes),
        write_yuv(tmp_path / "b.yuv", planes),
        write(tmp_path / "c.mkv", frames_of(planes)),
    ]
    report = as_json(*files, "--size", SIZE, "-m", "bicubic", "-s", scale)
    assert report["engine"] is None and report["precision"] is None
    for clip in report["clips"]:
        assert clip["psnr_db"] == clip["bicubic_psnr_db"] == report["clips"][0]["psnr_db"]
        assert clip["psnr_db"] == pytest.approx(expected_db(planes, scale), abs=1e-9)


def test_odd_sides_round_chroma_up(tmp_path, planes):
    odd = planes[:, :33, :45]
    for file in (write_y4m(tmp_path / "a.y4m", odd), write_yuv(tmp_path / "b.YUV", odd)):
        np.testing.assert_array_equal(list(luma_planes(file, (45, 33))), odd)


def test_deeper_luma_is_rounded_half_up(tmp_path):
    samples = np.arange(1024, dtype=np.uint16).reshape(1, 32, 32)
    clip = write(tmp_path / "ten.mkv", frames_of(samples, "yuv420p10le"))
    (luma,) = luma_planes(clip)
    np.testing.assert_array_equal(luma, np.minimum((samples[0] + 2) // 4, 255))
    report = as_json(clip, "-m", "bicubic", "-s", 2)
    eight = np.minimum((samples + 2) // 4, 255).astype(np.uint8)
    assert report["mean"]["psnr_db"] == pytest.approx(expected_db(eight, 2), abs=1e-9)


def test_full_range_is_kept(tmp_path, planes):
    clip = write(tmp_path / "full.mkv", frames_of(planes, "yuvj420p"), "mjpeg")
    with av.open(str(clip)) as container:
        decoded = [frame.to_ndarray()[:HEIGHT] for frame in container.decode(video=0)]
    assert np.min(decoded) < 16 and np.max(decoded) > 235
    np.testing.assert_array_equal(list(luma_planes(clip)), decoded)


def test_rgb_becomes_luma(tmp_path):
    image = np.ascontiguousarray(data.astronaut()[:96, :128])
    frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="bgr0")
    (luma,) = luma_planes(write(tmp_path / "rgb.mkv", [frame]))
    assert np.abs(luma.astype(int) - luma_8bit(image)).max() <= 1  # FFmpeg rounds differently


def test_only_the_first_frames(tmp_path, planes, model):
    files = [write_y4m(tmp_path / "a.y4m", planes), write_yuv(tmp_path / "b.yuv", planes)]
    for frames in (1, 2, FRAMES + 5):
        report = as_json(*files, "--size", SIZE, "-m", model, "--engine", "numpy", "--frames", frames)
        for clip in report["clips"]:
            assert clip["frames"] == min(frames, FRAMES)
            assert clip["psnr_db"] == pytest.approx(expected_db(planes[:frames], 3, repeat), abs=1e-9)


def test_other_streams_are_ignored(tmp_path, planes):
    with av.open(str(tmp_path / "talk.mkv"), "w") as container:
        video, audio = container.add_stream("ffv1", rate=25), container.add_stream("pcm_s16le", rate=8000)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        container.mux(audio.encode(silence()))
        for frame in frames_of(planes):
            container.mux(video.encode(frame))
        container.mux(video.encode())
        container.mux(audio.encode())
    np.testing.assert_array_equal(list(luma_planes(tmp_path / "talk.mkv")), planes)


def test_gaussian_reports_sigma(tmp_path, planes):
    clip = write_y4m(tmp_path / "a.y4m", planes)
    report = as_json(clip, "-m", "bicubic", "-s", 3, "--degradation", "gaussian", "--sigma-px", 1.2)
    assert (report["degradation"], report["sigma_px"]) == ("gaussian", 1.2)
    assert abs(report["mean"]["psnr_db"] - expected_db(planes, 3)) > 0.01


def test_progress_counts_frames(tmp_path, planes):
    done = []
    scores = evaluate_clip(
        write_y4m(tmp_path / "a.y4m", planes),
        protocol.bicubic(2),
        ClipSetup(2),
        frames=2,
        progress=done.append,
    )
    assert done == [1, 2]
    assert scores.frames == 2


def test_the_mean_gives_each_clip_the_same_weight():
    first = ClipScores("a", (Scores(30.0, 0.5),) * 100, (Scores(28.0, 0.4),) * 100)
    second = ClipScores("b", (Scores(40.0, 0.7),), (Scores(39.0, 0.6),))
    mean = mean_of_clips([first, second])
    assert mean == MeanScores("mean", 101, Scores(35.0, pytest.approx(0.6)), Scores(33.5, pytest.approx(0.5)))


def test_an_infinite_psnr_is_null_in_json(tmp_path, planes):
    planes[1] = 16
    clip = write_y4m(tmp_path / "a.y4m", planes)
    report = as_json(clip, "-m", "bicubic", "-s", 2)
    assert report["clips"][0]["psnr_db"] is None and report["mean"]["bicubic_psnr_db"] is None
    assert math.isinf(evaluate_clip(clip, protocol.bicubic(2), ClipSetup(2)).mean.model.psnr_db)
    assert "inf" in run(clip, "-m", "bicubic", "-s", 2).stdout


def test_tables(tmp_path, planes, model):
    files = [write_y4m(tmp_path / f"[red]{name}.y4m", planes[:count]) for name, count in (("a", 1), ("b", 2))]
    result = run(*files, "-m", model, "--engine", "numpy")
    assert result.exit_code == 0, result.stderr
    assert "repeat-x3 on video x3" in result.stdout and "numpy fp32" in result.stdout
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines()]
    rows = [row for row in rows if row]
    values = [
        (expected(planes[:count], 3, repeat).mean(0), expected(planes[:count], 3).mean(0)) for count in (1, 2)
    ]
    values.append(tuple(np.mean(values, axis=0)))
    names = [("[red]a.y4m", "1"), ("[red]b.y4m", "2"), ("mean", "3")]
    assert rows == [
        [
            *name,
            *(f"{ours[0]:.2f}", f"{ours[1]:.4f}"),
            *(f"{bicubic[0]:.2f}", f"{bicubic[1]:.4f}", f"{ours[0] - bicubic[0]:+.2f}"),
        ]
        for name, (ours, bicubic) in zip(names, values, strict=True)
    ]
    assert "published" not in result.stdout and "protocol image" in result.stdout
    assert "mean" not in run(files[0], "-m", model, "--engine", "numpy").stdout  # one clip has no mean
    baseline = run(*files, "-m", "bicubic", "-s", 3).stdout
    assert "gain" not in baseline and "bicubic dB" not in baseline
    assert "bicubic on video x3" in baseline


def test_a_folder_of_clips(tmp_path, planes):
    for name in ("b.Y4M", "a.y4m"):
        write_y4m(tmp_path / name, planes)
    (tmp_path / "README.md").write_text("words")
    report = as_json(tmp_path, "-m", "bicubic", "-s", 2)
    assert [clip["name"] for clip in report["clips"]] == ["a.y4m", "b.Y4M"]
    Image.fromarray(data.camera()[:40, :40]).save(tmp_path / "image.png")
    images = as_json(tmp_path, "-m", "bicubic", "-s", 2)
    assert [image["name"] for image in images["images"]] == ["image"]
    assert find_clips([tmp_path]) == []


@pytest.fixture
def files(tmp_path, planes, model):
    """Files by their names in the arguments of `test_errors`."""
    given = {
        "CLIP": write_y4m(tmp_path / "clip.y4m", planes),
        "RAW": write_yuv(tmp_path / "raw.yuv", planes),
        "BROKEN": tmp_path / "broken.mp4",
        "DAMAGED": write(tmp_path / "damaged.mkv", frames_of(planes, "yuvj420p"), "mjpeg"),
        "SMALL": write_y4m(tmp_path / "small.y4m", planes[:, :8]),
        "EMPTY": tmp_path / "empty.yuv",
        "SOUND": tmp_path / "sound.mkv",
        "IMAGE": tmp_path / "image.png",
        "FOLDER": tmp_path / "folder",
        "IMAGES": tmp_path / "images",
        "MODEL": model,
    }
    given["BROKEN"].write_bytes(b"not a video")
    decode_errors(given["DAMAGED"], FRAMES - 1)
    given["EMPTY"].touch()
    given["IMAGE"].touch()
    given["FOLDER"].mkdir()
    given["IMAGES"].mkdir()
    Image.fromarray(data.camera()[:40, :40]).save(given["IMAGES"] / "image.png")
    with av.open(str(given["SOUND"]), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        container.mux(stream.encode(silence()))
    return given


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (("CLIP", "FOLDER"), 2, "folder: is a folder; evaluate either one folder or files of clips"),
        (("FOLDER", "FOLDER"), 2, "folder: is a folder; evaluate either one folder"),
        (("CLIP", "IMAGE"), 2, "image.png: not a clip"),
        (("RAW",), 2, "raw.yuv: raw video does not contain the size of its frames; give it, such as --size"),
        (("CLIP", "--size", SIZE), 2, "a frame size is for raw .yuv clips, and no input is one"),
        (("IMAGES", "--size", SIZE), 2, "a frame size is for raw .yuv clips, and no input is one"),
        (("IMAGES", "--frames", 2), 2, "images: not a video clip; leave out --frames"),
        (("IMAGES", "--vmaf"), 2, "images: not a video clip; leave out --vmaf"),
        (("CLIP", "--protocol", "vid4"), 2, "unknown protocol 'vid4'; known: image, full-frame, vespcn"),
        (("CLIP", "--protocol", "vespcn"), 1, "clip.y4m: 3 frames are too few for the protocol vespcn"),
        (("CLIP", "--crf", 52), 2, "the CRF of H.264 must be 0 to 51, not 52"),
        (("CLIP", "--frames", 1, "--temporal"), 1, "too few for the protocol image with temporal"),
        (("RAW", "--size", "46"), 2, "expected WIDTHxHEIGHT"),
        (("RAW", "--size", "46x00"), 2, "expected WIDTHxHEIGHT"),
        (("CLIP", "--frames", 0), 2, "--frames"),
        (("CLIP", "nowhere.mp4"), 1, "nowhere.mp4: no such file"),
        (("nowhere.mp4",), 1, "nowhere.mp4: no such file"),
        (("RAW", "--size", "48x34"), 1, "raw.yuv: its 7038 bytes are not a whole number of 48x34 frames"),
        (("EMPTY", "--size", SIZE), 1, "empty.yuv: its 0 bytes are not a whole number"),
        (("BROKEN",), 1, "broken.mp4: cannot be read"),
        (("BROKEN",), 1, "evaluate clips that FFmpeg can decode, without this one"),
        (("SOUND",), 1, "sound.mkv: contains no video, only audio"),
        (
            ("DAMAGED",),
            1,
            "damaged.mkv: is damaged (frames that could not be decoded: 1); evaluate an intact clip",
        ),
        (("CLIP", "SMALL"), 1, "small.y4m: frames of 46x8 are too small to evaluate x3"),
        (("SMALL",), 1, "take a clip of at least 18x18"),
        (("FOLDER",), 1, "folder: contains no images (.bmp"),
        (("FOLDER",), 1, "and no clips (.mp4"),
    ],
)
def test_errors(files, arguments, exit_code, message):
    result = run(
        *(files.get(argument, argument) for argument in arguments), "-m", files["MODEL"], "--engine", "numpy"
    )
    assert result.exit_code == exit_code, result.stderr
    assert result.stdout == ""
    assert message in message_of(result)


def test_only_damage_in_the_frames_in_use_is_an_error(tmp_path, planes):
    clip = write(tmp_path / "clip.mkv", frames_of(planes, "yuvj420p"), "mjpeg")
    decode_errors(clip, 1)
    arguments = (clip, "-m", "bicubic", "-s", 2, "--frames")
    assert as_json(*arguments, 1)["clips"][0]["frames"] == 1
    result = run(*arguments, 2)
    assert result.exit_code == 1 and "clip.mkv: is damaged" in message_of(result)


def test_errors_of_the_library(files):
    with pytest.raises(ValueError, match="does not contain the size"):
        next(luma_planes(files["RAW"]))
    for name in ("BROKEN", "SOUND", "DAMAGED", "SMALL"):
        with pytest.raises(DatasetError, match=files[name].name):
            evaluate_clip(files[name], protocol.bicubic(3), ClipSetup(3))
    with pytest.raises(DatasetError, match=r"gone\.yuv: cannot be read"):
        next(luma_planes(files["RAW"].with_name("gone.yuv"), (WIDTH, HEIGHT)))
    with pytest.raises(ValueError, match="the model turned"):
        evaluate_clip(files["CLIP"], protocol.bicubic(2), ClipSetup(3))


def test_a_network_gains_over_bicubic(datasets):
    clip = datasets / "video" / "foreman_cif_10frames.y4m"
    if not clip.is_file():
        pytest.skip(f"no {clip}")
    (scores,) = as_json(clip, "-m", "espcn-t91-x3", "--frames", 2)["clips"]
    with av.open(str(clip)) as container:
        frames = itertools.islice(container.decode(video=0), 2)
        planes = [frame.to_ndarray()[: frame.height] for frame in frames]
    assert scores["bicubic_psnr_db"] == pytest.approx(expected_db(planes, 3), abs=1e-9)
    assert scores["psnr_db"] - scores["bicubic_psnr_db"] > 2  # measured: 2.6
