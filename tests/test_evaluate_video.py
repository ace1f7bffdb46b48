"""Evaluation on video, against NumPy and scikit-image on the planes that the tests wrote themselves."""

import itertools
import json
import math
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from skimage import data
from skimage.metrics import peak_signal_noise_ratio
from typer.testing import CliRunner

from subpixel.cli import app
from subpixel.errors import DatasetError
from subpixel.evaluation import protocol
from subpixel.evaluation.video import ClipScores, evaluate_clip, find_clips, luma_planes
from subpixel.evaluation.video import mean as mean_of_clips
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
    """Luma of a clip, ``(frames, H, W)``: over all levels, and each frame another picture."""
    picture = data.camera()
    return np.stack([picture[40 * n : 40 * n + HEIGHT, 200 : 200 + WIDTH] for n in range(3, 3 + FRAMES)])


def frames_of(planes, format="yuv420p"):
    """Frames with this luma, and with chroma that no luma has."""
    for number, luma in enumerate(planes):
        frame = av.VideoFrame(luma.shape[1], luma.shape[0], format)
        for index, plane in enumerate(frame.planes):
            rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size).view(luma.dtype)
            rows[: plane.height, : plane.width] = luma if index == 0 else 10 + index
        frame.pts = number
        yield frame


def write(path, frames, codec="ffv1"):
    """A lossless file of these frames."""
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
    """Overwrite a frame of a file by zeros."""
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    whole = path.read_bytes()
    assert whole.count(packets[number]) == 1
    path.write_bytes(whole.replace(packets[number], bytes(len(packets[number]))))


def silence():
    sound = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.int16), "s16", "mono")
    sound.rate = 8000
    return sound


def rounded(samples):
    return np.clip(np.floor(samples * 255 + 0.5), 0, 255).astype(np.uint8)


def expected_db(planes, scale, enlarge=None):
    """Mean PSNR over frames by scikit-image, by bicubic unless another way is given."""
    results = []
    for plane in planes:
        height, width = (side - side % scale for side in plane.shape)
        hr = plane[:height, :width]
        lr = rounded(imresize(hr / 255, 1 / scale))
        sr = rounded(imresize(lr / 255, scale)) if enlarge is None else enlarge(lr)
        inside = np.s_[scale : height - scale, scale : width - scale]
        results.append(peak_signal_noise_ratio(hr[inside], sr[inside], data_range=255))
    return np.mean(results)


def repeat(plane):
    """What the network of the fixture `model` computes."""
    return np.kron(np.minimum(plane, 253), np.ones((3, 3), np.uint8)) + np.uint8(2)


@pytest.fixture
def model(tmp_path):
    """A network that repeats each pixel 3 x 3 times, a little too bright."""
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


def said(result):
    return " ".join(result.stderr.replace("│", " ").split())


def test_json_is_the_documented_object(tmp_path, planes, model):
    one = write_y4m(tmp_path / "one.y4m", planes)
    two = write(tmp_path / "two.mkv", frames_of(planes[:1]))
    report = as_json(one, two, "-m", model, "--engine", "numpy")
    ours, bicubic = expected_db(planes, 3, repeat), expected_db(planes, 3)
    first, first_bicubic = expected_db(planes[:1], 3, repeat), expected_db(planes[:1], 3)
    assert abs(ours - first) > 0.1  # so that frames cannot be mistaken for each other
    assert report == {
        "dataset": "video",
        "scale": 3,
        "model": "repeat-x3",
        "engine": "numpy",
        "precision": "fp32",
        "degradation": "bicubic",
        "clips": [
            {
                "name": "one.y4m",
                "frames": FRAMES,
                "psnr_db": pytest.approx(ours, abs=1e-9),
                "bicubic_psnr_db": pytest.approx(bicubic, abs=1e-9),
            },
            {
                "name": "two.mkv",
                "frames": 1,
                "psnr_db": pytest.approx(first, abs=1e-9),
                "bicubic_psnr_db": pytest.approx(first_bicubic, abs=1e-9),
            },
        ],
        "mean": {
            "psnr_db": pytest.approx((ours + first) / 2, abs=1e-9),
            "bicubic_psnr_db": pytest.approx((bicubic + first_bicubic) / 2, abs=1e-9),
        },
    }


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_every_kind_of_file_gives_the_same(tmp_path, planes, scale):
    """Also at scales that do not divide the sides."""
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


def test_odd_sides_have_more_chroma(tmp_path, planes):
    odd = planes[:, :33, :45]
    for file in (write_y4m(tmp_path / "a.y4m", odd), write_yuv(tmp_path / "b.YUV", odd)):
        np.testing.assert_array_equal(list(luma_planes(file, (45, 33))), odd)


def test_deeper_luma_is_rounded_half_up(tmp_path):
    levels = np.arange(1024, dtype=np.uint16).reshape(1, 32, 32)
    clip = write(tmp_path / "ten.mkv", frames_of(levels, "yuv420p10le"))
    (luma,) = luma_planes(clip)
    np.testing.assert_array_equal(luma, np.minimum((levels[0] + 2) // 4, 255))
    report = as_json(clip, "-m", "bicubic", "-s", 2)
    eight = np.minimum((levels + 2) // 4, 255).astype(np.uint8)
    assert report["mean"]["psnr_db"] == pytest.approx(expected_db(eight, 2), abs=1e-9)


def test_full_range_is_taken_as_it_is(tmp_path, planes):
    clip = write(tmp_path / "full.mkv", frames_of(planes, "yuvj420p"), "mjpeg")
    with av.open(str(clip)) as container:
        decoded = [frame.to_ndarray()[:HEIGHT] for frame in container.decode(video=0)]
    assert np.min(decoded) < 16 and np.max(decoded) > 235
    np.testing.assert_array_equal(list(luma_planes(clip)), decoded)


def test_rgb_becomes_luma(tmp_path):
    picture = np.ascontiguousarray(data.astronaut()[:96, :128])
    frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="bgr0")
    (luma,) = luma_planes(write(tmp_path / "rgb.mkv", [frame]))
    assert np.abs(luma.astype(int) - luma_8bit(picture)).max() <= 1  # FFmpeg rounds in its own way


def test_only_the_first_frames(tmp_path, planes, model):
    files = [write_y4m(tmp_path / "a.y4m", planes), write_yuv(tmp_path / "b.yuv", planes)]
    for frames in (1, 2, FRAMES + 5):
        report = as_json(*files, "--size", SIZE, "-m", model, "--engine", "numpy", "--frames", frames)
        for clip in report["clips"]:
            assert clip["frames"] == min(frames, FRAMES)
            assert clip["psnr_db"] == pytest.approx(expected_db(planes[:frames], 3, repeat), abs=1e-9)


def test_sound_and_other_tracks_are_passed_over(tmp_path, planes):
    with av.open(str(tmp_path / "talk.mkv"), "w") as container:
        video, audio = container.add_stream("ffv1", rate=25), container.add_stream("pcm_s16le", rate=8000)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        container.mux(audio.encode(silence()))
        for frame in frames_of(planes):
            container.mux(video.encode(frame))
        container.mux(video.encode())
        container.mux(audio.encode())
    np.testing.assert_array_equal(list(luma_planes(tmp_path / "talk.mkv")), planes)


def test_gaussian_states_its_width(tmp_path, planes):
    clip = write_y4m(tmp_path / "a.y4m", planes)
    report = as_json(clip, "-m", "bicubic", "-s", 3, "--degradation", "gaussian", "--sigma-px", 1.2)
    assert (report["degradation"], report["sigma_px"]) == ("gaussian", 1.2)
    assert abs(report["mean"]["psnr_db"] - expected_db(planes, 3)) > 0.01


def test_progress_counts_frames(tmp_path, planes):
    done = []
    scores = evaluate_clip(
        write_y4m(tmp_path / "a.y4m", planes),
        protocol.bicubic(2),
        2,
        protocol.Degradation(),
        frames=2,
        progress=done.append,
    )
    assert done == [1, 2]
    assert scores.frames == 2


def test_the_mean_counts_each_clip_alike():
    clips = [ClipScores("a", 100, 30.0, 28.0), ClipScores("b", 1, 40.0, 39.0)]
    assert mean_of_clips(clips) == ClipScores("mean", 101, 35.0, 33.5)


def test_a_frame_that_comes_back_exactly_is_null_in_json(tmp_path, planes):
    planes[1] = 16
    clip = write_y4m(tmp_path / "a.y4m", planes)
    report = as_json(clip, "-m", "bicubic", "-s", 2)
    assert report["clips"][0]["psnr_db"] is None and report["mean"]["bicubic_psnr_db"] is None
    assert math.isinf(evaluate_clip(clip, protocol.bicubic(2), 2, protocol.Degradation()).psnr_db)
    assert "inf" in run(clip, "-m", "bicubic", "-s", 2).stdout


def test_tables_for_people(tmp_path, planes, model):
    files = [write_y4m(tmp_path / f"[red]{name}.y4m", planes[:count]) for name, count in (("a", 1), ("b", 2))]
    result = run(*files, "-m", model, "--engine", "numpy")
    assert result.exit_code == 0, result.stderr
    assert "repeat-x3 on video x3" in result.stdout and "numpy fp32" in result.stdout
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines()]
    rows = [row for row in rows if row]
    values = [(expected_db(planes[:count], 3, repeat), expected_db(planes[:count], 3)) for count in (1, 2)]
    values.append(tuple(np.mean(values, axis=0)))
    names = [("[red]a.y4m", "1"), ("[red]b.y4m", "2"), ("mean", "3")]
    assert rows == [
        [*name, f"{ours:.2f}", f"{bicubic:.2f}", f"{ours - bicubic:+.2f}"]
        for name, (ours, bicubic) in zip(names, values, strict=True)
    ]
    assert "published" not in result.stdout and "SSIM" not in result.stdout
    assert "mean" not in run(files[0], "-m", model, "--engine", "numpy").stdout  # of one it says nothing
    alone = run(*files, "-m", "bicubic", "-s", 3).stdout
    assert "gain" not in alone and "bicubic dB" not in alone and "bicubic on video x3" in alone


def test_a_folder_of_clips_alone(tmp_path, planes):
    for name in ("b.Y4M", "a.y4m"):
        write_y4m(tmp_path / name, planes)
    (tmp_path / "README.md").write_text("words")
    report = as_json(tmp_path, "-m", "bicubic", "-s", 2)
    assert [clip["name"] for clip in report["clips"]] == ["a.y4m", "b.Y4M"]
    Image.fromarray(data.camera()[:40, :40]).save(tmp_path / "picture.png")
    pictures = as_json(tmp_path, "-m", "bicubic", "-s", 2)
    assert [image["name"] for image in pictures["images"]] == ["picture"]
    assert find_clips([tmp_path]) == []


@pytest.fixture
def files(tmp_path, planes, model):
    """Files by the words that stand for them in `test_errors`."""
    given = {
        "CLIP": write_y4m(tmp_path / "clip.y4m", planes),
        "RAW": write_yuv(tmp_path / "raw.yuv", planes),
        "BROKEN": tmp_path / "broken.mp4",
        "DAMAGED": write(tmp_path / "damaged.mkv", frames_of(planes, "yuvj420p"), "mjpeg"),
        "SMALL": write_y4m(tmp_path / "small.y4m", planes[:, :8]),
        "EMPTY": tmp_path / "empty.yuv",
        "SOUND": tmp_path / "sound.mkv",
        "PICTURE": tmp_path / "picture.png",
        "FOLDER": tmp_path / "folder",
        "PICTURES": tmp_path / "pictures",
        "MODEL": model,
    }
    given["BROKEN"].write_bytes(b"not a video")
    decode_errors(given["DAMAGED"], FRAMES - 1)
    given["EMPTY"].touch()
    given["PICTURE"].touch()
    given["FOLDER"].mkdir()
    given["PICTURES"].mkdir()
    Image.fromarray(data.camera()[:40, :40]).save(given["PICTURES"] / "picture.png")
    with av.open(str(given["SOUND"]), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        container.mux(stream.encode(silence()))
    return given


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (("CLIP", "FOLDER"), 2, "folder: is a folder; evaluate one folder alone, or files of clips"),
        (("FOLDER", "FOLDER"), 2, "folder: is a folder; evaluate one folder alone"),
        (("CLIP", "PICTURE"), 2, "picture.png: is no clip by its name"),
        (("RAW",), 2, "raw.yuv: raw video does not tell the size of its frames; give it, such as --size"),
        (("CLIP", "--size", SIZE), 2, "a frame size is for raw .yuv clips, and there is none"),
        (("PICTURES", "--size", SIZE), 2, "a frame size is for raw .yuv clips, and there is none"),
        (("PICTURES", "--frames", 2), 2, "pictures: is no video clip, of which --frames could be used"),
        (("RAW", "--size", "46"), 2, "expected WIDTHxHEIGHT"),
        (("RAW", "--size", "46x00"), 2, "expected WIDTHxHEIGHT"),
        (("CLIP", "--frames", 0), 2, "--frames"),
        (("CLIP", "nowhere.mp4"), 1, "nowhere.mp4: no such file"),
        (("nowhere.mp4",), 1, "nowhere.mp4: no such file"),
        (("RAW", "--size", "48x34"), 1, "raw.yuv: its 7038 bytes are not a whole number of 48x34 frames"),
        (("EMPTY", "--size", SIZE), 1, "empty.yuv: its 0 bytes are not a whole number"),
        (("BROKEN",), 1, "broken.mp4: cannot be read"),
        (("BROKEN",), 1, "evaluate clips that FFmpeg can decode, or leave this one out"),
        (("SOUND",), 1, "sound.mkv: holds no video, only audio"),
        (
            ("DAMAGED",),
            1,
            "damaged.mkv: is damaged (frames that could not be decoded: 1); take a clip that is whole",
        ),
        (("CLIP", "SMALL"), 1, "small.y4m: frames of 46x8 are too small to evaluate x3"),
        (("SMALL",), 1, "take a clip of at least 9x9"),
        (("FOLDER",), 1, "folder: holds no pictures (.bmp"),
        (("FOLDER",), 1, "and no clips (.mp4"),
    ],
)
def test_errors(files, arguments, exit_code, message):
    result = run(
        *(files.get(argument, argument) for argument in arguments), "-m", files["MODEL"], "--engine", "numpy"
    )
    assert result.exit_code == exit_code, result.stderr
    assert result.stdout == ""
    assert message in said(result)


def test_damage_counts_only_among_the_frames_in_use(tmp_path, planes):
    clip = write(tmp_path / "clip.mkv", frames_of(planes, "yuvj420p"), "mjpeg")
    decode_errors(clip, 1)
    arguments = (clip, "-m", "bicubic", "-s", 2, "--frames")
    assert as_json(*arguments, 1)["clips"][0]["frames"] == 1
    result = run(*arguments, 2)
    assert result.exit_code == 1 and "clip.mkv: is damaged" in said(result)


def test_the_library_raises_its_own_errors(files):
    with pytest.raises(ValueError, match="does not tell the size"):
        next(luma_planes(files["RAW"]))
    for name in ("BROKEN", "SOUND", "DAMAGED", "SMALL"):
        with pytest.raises(DatasetError, match=files[name].name):
            evaluate_clip(files[name], protocol.bicubic(3), 3, protocol.Degradation())
    with pytest.raises(DatasetError, match=r"gone\.yuv: cannot be read"):
        next(luma_planes(files["RAW"].with_name("gone.yuv"), (WIDTH, HEIGHT)))
    with pytest.raises(ValueError, match="the model made"):
        evaluate_clip(files["CLIP"], protocol.bicubic(2), 3, protocol.Degradation())


def test_a_network_gains_over_bicubic(datasets):
    clip = datasets / "video" / "foreman_cif_10frames.y4m"
    if not clip.is_file():
        pytest.skip(f"no {clip}")
    (scores,) = as_json(clip, "-m", "espcn-t91-x3", "--frames", 2)["clips"]
    with av.open(str(clip)) as container:
        frames = itertools.islice(container.decode(video=0), 2)
        planes = [frame.to_ndarray()[: frame.height] for frame in frames]
    assert scores["bicubic_psnr_db"] == pytest.approx(expected_db(planes, 3), abs=1e-9)
    assert scores["psnr_db"] - scores["bicubic_psnr_db"] > 2  # 2.6 were measured
