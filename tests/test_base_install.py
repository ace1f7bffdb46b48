"""Machines without llvmlite, and those without ONNX Runtime: the other engine serves."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from image_files import smooth_image


@pytest.mark.parametrize("missing", ["llvmlite", "onnxruntime"])
def test_upscale_without(tmp_path, missing):
    """In a process of its own, as the command does it."""
    Image.fromarray(smooth_image(40, 50)).save(tmp_path / "in.png")

    def upscale(output, *hidden):
        code = f"import sys\nfor name in {hidden}:\n    sys.modules[name] = None\n"
        code += "from subpixel.__main__ import main\nmain()\n"
        command = [sys.executable, "-c", code, "upscale", "in.png", "-o", output, "-s", "2", "-v"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        with Image.open(tmp_path / output) as image:
            return np.asarray(image).astype(int), done.stderr

    usual, _ = upscale("usual.png")
    other, told = upscale("other.png", missing)
    assert np.abs(usual - other).max() <= 4 and np.abs(usual - other).mean() < 0.5
    if missing == "llvmlite":
        assert "engine onnxruntime on " in told
        assert "run `pip install llvmlite`" in told
    else:
        assert "numpy" not in told
