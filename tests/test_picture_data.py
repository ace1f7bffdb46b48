"""Int8 networks give the same picture data whatever the processor, from file to file.

Each process is held to other instructions: the engine by its target, NumPy, BLAS, libvips, the C library and
the JPEG decoder by their variables, FFmpeg by a call.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from picture_data import frames, write_inputs
from random_models import native_runs
from subpixel.ops.color import rgb_to_ycbcr
from subpixel.video.media.pixel_formats import plane, to_planar

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the libraries are held by variables of Linux"),
    pytest.mark.skipif(not native_runs(), reason="int8 is fast enough for this only with the native engine"),
]

SIMPLE = {
    "SUBPIXEL_TARGET": "avx2",
    "OPENBLAS_CORETYPE": "Prescott",
    "VIPS_NOVECTOR": "1",
    "JSIMD_FORCENONE": "1",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX512F",
    "PICTURE_DATA_FFMPEG": "0",
}
"""Variables that forbid what newer processors have. NumPy's is added in `simple`."""


def simple():
    found = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    return SIMPLE | {"NPY_DISABLE_CPU_FEATURES": " ".join(found)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    return folder


def digests(folder, out, environment):
    out.mkdir()
    script = Path(__file__).parent / "picture_data.py"
    done = subprocess.run(
        [sys.executable, str(script), str(folder), str(out)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(script.parent), *sys.path])} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def different(ones, others):
    assert ones.keys() == others.keys()
    return [name for name in ones if ones[name] != others[name]]


SCALE = """
import hashlib, os
from picture_data import frames, hold_ffmpeg
from video_files import make_frames
from av.video.reformatter import VideoReformatter
from subpixel.video.media.pixel_formats import plane, reformat, to_planar

inputs = [list(make_frames(2, format=format)) for format in ("yuv420p", "yuv422p10le")]
inputs.append(list(frames("rgb48le", count=2)))
if flags := os.environ.get("PICTURE_DATA_FFMPEG"):
    hold_ffmpeg(int(flags))
for of_format in inputs:
    digest = hashlib.sha256()
    for frame in of_format:
        large = reformat(VideoReformatter(), to_planar(frame, VideoReformatter()), 300, 240, bicubic=True)
        for index in range(3):
            digest.update(plane(large, index).tobytes())
    print(digest.hexdigest())
"""


def test_frames_are_scaled_alike_by_all_code_of_ffmpeg():
    plain, held = (
        subprocess.run(
            [sys.executable, "-c", SCALE],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for environment in ({}, {"PICTURE_DATA_FFMPEG": "0"})
    )
    assert len(set(plain)) == 3
    assert plain == held


def test_rows_of_16_bit_frames_do_not_run_into_each_other():
    """With several threads, FFmpeg's scaler writes beyond the ends of rows."""
    for frame in frames("rgb48le", count=1):
        planar = to_planar(frame, VideoReformatter())
        rgb = np.frombuffer(frame.planes[0], np.uint16).reshape(frame.height, -1)[:, : 3 * frame.width]
        expected = rgb_to_ycbcr(rgb.reshape(frame.height, frame.width, 3) / 65535, matrix="bt709") * 65535
        for index in range(3):  # in 16 bits, black is 16 * 256, and gray 128 * 256
            assert np.abs(plane(planar, index) - expected[..., index]).max() < 150


@pytest.mark.slow  # the processes take 15 s; the parts are compared here and in test_native.py
def test_a_simple_processor_gives_the_same(folder, tmp_path):
    free = digests(folder, tmp_path / "free", {})
    assert len(set(free.values())) == len(free)
    assert different(free, digests(folder, tmp_path / "simple", simple())) == []
    assert different(free, digests(folder, tmp_path / "numpy", {"PICTURE_DATA_ENGINE": "numpy"})) == []
