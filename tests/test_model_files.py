"""Model files of unknown origin: `load_model` names the file and the fault."""

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from random_models import random_model
from subpixel import Convolution, Model, ModelError, ModelSpec, load_model
from subpixel.models import catalog as packaged
from subpixel.models.catalog import tnrd_file
from subpixel.models.networks import espcn, srcnn
from subpixel.models.spec import MAX_CHANNELS, MAX_HALO_PX, MAX_KERNEL_PX, MAX_LAYERS, MAX_MACS

QUANTIZED = Path(str(packaged.path("fast-x2")))


def split_file(path: Path) -> tuple[dict[str, Any], bytes]:
    """Split a file into its header and the bytes after it."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def write_file(path: Path, header: dict[str, Any] | bytes, rest: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + rest)
    return path


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    """Write a model file with some metadata replaced."""

    def changed(**metadata: str) -> Path:
        path = tmp_path / "m.safetensors"
        random_model(espcn(3)).save(path)
        header, rest = split_file(path)
        header["__metadata__"] |= metadata
        return write_file(path, header, rest)

    return changed


def spec_json(**fields: Any) -> str:
    return json.dumps(espcn(3).to_json() | fields)


def refusal(path: Path) -> str:
    """Return the error message without the path; it must name the file and be short."""
    with pytest.raises(ModelError) as caught:
        load_model(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message) < len(str(path)) + 700
    assert message.isprintable()
    return message.removeprefix(f"{path}: ")


def layer(inputs: int, outputs: int, kernel: int) -> dict[str, Any]:
    return {"inputs": inputs, "outputs": outputs, "kernel": kernel, "activation": "none"}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("[" * 200_000 + "]" * 200_000, "description is nested too deeply"),
        ('{"a":' * 100_000, "description is nested too deeply"),
        ("", "description is not JSON"),
        ("null", "the description is NoneType, not an object"),
        ("1" * 5000, "description is not JSON"),
        (spec_json(scale=10**9), "scale must be 1 to 8, not 1000000000"),
        (spec_json(scale=-1), "scale must be 1 to 8, not -1"),
        (spec_json(scale=10**4000), "scale must be 1 to 8, not 1000"),
        (spec_json(scale=2.0), "scale must be int, not 2.0"),
        (spec_json(scale=None), "scale must be int, not None"),
        (spec_json(scale=["x" * 10_000] * 100), "scale must be int, not ['xxx"),
        (spec_json(channels=10**9), "1000000000 channels are more than the limit of 1024"),
        (spec_json(channels=10**4000), "channels are more than the limit of 1024"),
        (spec_json(layers=[layer(1, 9, 10**4000)]), "px is larger than the limit of 99"),
        (spec_json(layers=[layer(1, 9, -(10**4000))]), "must be odd, not -1000"),
        (spec_json(layers=[layer(-(10**4000), 9, 3)]), "channels but is given 1"),
        (spec_json(layers=[layer(1, -(10**4000), 3)]), "at least one channel, not -1000"),
        (spec_json(residual="x" * 100_000), "unknown residual 'xxx"),
        (spec_json(residual="\ud800"), r"unknown residual '\ud800'"),
        (spec_json(layers=[]), "needs at least one convolution"),
        (
            spec_json(layers=[layer(1, 1, 1)] * 10_000),
            f"10000 layers are more than the limit of {MAX_LAYERS}",
        ),
        (
            spec_json(layers=[layer(1, 9, 999)]),
            f"layer 0: a kernel of 999 px is larger than the limit of {MAX_KERNEL_PX}",
        ),
        (
            spec_json(layers=[layer(1, 10**6, 3), layer(10**6, 9, 3)]),
            f"layer 0: 1000000 channels are more than the limit of {MAX_CHANNELS}",
        ),
        (
            spec_json(layers=[layer(1, 1000, 1), *[layer(1000, 1000, 9)] * 2, layer(1000, 9, 1)]),
            f"162,010,000 multiply-adds per LR pixel are more than the limit of {MAX_MACS:,}",
        ),
        (
            spec_json(layers=[layer(1, 1, 99)] * 3 + [layer(1, 9, 1)]),
            f"a halo of 147 LR pixels is larger than the limit of {MAX_HALO_PX}",
        ),
        (spec_json(**{f"{n}{'x' * 500}": 1 for n in range(1000)}), "unknown '0xxx"),
    ],
)
def test_invalid_specs(changed: Callable[..., Path], spec: str, words: str) -> None:
    assert words in refusal(changed(description=spec))


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ("[" * 200_000, "facts is nested too deeply"),
        ("3", "the facts are int, not an object"),
        ('{"color": "red"}', "unknown facts color"),
        ('{"version": 1}', "version can't be 1"),
        ('{"license": "\\ud800"}', r"license can't be '\ud800'"),
        ('{"psnr_db": [1]}', "psnr_db can't be [1]"),
        ('{"psnr_db": {"Set5": NaN}}', "psnr_db can't be {'Set5': nan}"),
        ('{"psnr_db": {"Set5": 1' + "0" * 400 + "}}", "psnr_db can't be {'Set5': 1000"),
    ],
)
def test_invalid_metadata(changed: Callable[..., Path], metadata: str, words: str) -> None:
    assert words in refusal(changed(facts=metadata))


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[31mred", "x" * 100_000])
def test_invalid_names(changed: Callable[..., Path], name: str) -> None:
    assert "name is 1 to 200 printable characters" in refusal(changed(name=name))


def test_missing_metadata(tmp_path: Path) -> None:
    header, rest = split_file(QUANTIZED)
    for key in ("name", "description", "facts", "format"):
        metadata = {other: value for other, value in header["__metadata__"].items() if other != key}
        refusal(write_file(tmp_path / "m.safetensors", header | {"__metadata__": metadata}, rest))


def test_a_header_of_many_megabytes(tmp_path: Path, changed: Callable[..., Path]) -> None:
    assert "more than the limit of 1048576" in refusal(changed(license="x" * 2_000_000))
    arrays = {f"a{n}": np.zeros(0, np.float32) for n in range(20_000)}
    save_file(arrays, tmp_path / "many.safetensors")
    assert "more than the limit of 1048576" in refusal(tmp_path / "many.safetensors")
    assert tnrd_file(str(tmp_path / "many.safetensors")) is None


def test_many_arrays_of_other_names(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    random_model(espcn(3)).save(path)
    header, _ = split_file(path)
    extra = {f"more.{n}": np.zeros(1, np.float32) for n in range(5000)}
    save_file(load_file(path) | extra, path, header["__metadata__"])
    assert refusal(path).endswith("and 4995 more")


def test_an_array_of_another_shape_is_not_read(tmp_path: Path) -> None:
    """A sparse file of a hundred gigabytes: to read it would fail."""
    path = tmp_path / "m.safetensors"
    random_model(espcn(3)).save(path)
    header, rest = split_file(path)
    key = max(
        (key for key in header if key != "__metadata__"), key=lambda key: header[key]["data_offsets"][1]
    )
    start, many = header[key]["data_offsets"][0], 25 * 10**9
    header[key] |= {"dtype": "F32", "shape": [many], "data_offsets": [start, start + 4 * many]}
    write_file(path, header, rest[:start])
    os.truncate(path, path.stat().st_size + 4 * many)
    assert f"{key} has shape (25000000000,)" in refusal(path)


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F64", "I32", "BOOL", "C64"])
def test_arrays_of_another_dtype(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "m.safetensors"
    random_model(ModelSpec(2, (Convolution(1, 4, 1),))).save(path)
    header, _ = split_file(path)
    size = {"BF16": 2, "F8_E4M3": 1, "F64": 8, "I32": 4, "BOOL": 1, "C64": 8}[dtype]
    header["layers.0.bias"] = {"dtype": dtype, "shape": [4], "data_offsets": [0, 4 * size]}
    header["layers.0.weight"] = {
        "dtype": "F16",
        "shape": [4, 1, 1, 1],
        "data_offsets": [4 * size, 4 * size + 8],
    }
    write_file(path, header, bytes(4 * size + 8))
    assert "layers.0.bias is " in refusal(path)


@pytest.mark.parametrize("length", [0, 1, 2**20 - 1, 2**31, 2**63, 2**64 - 1])
def test_wrong_header_lengths(tmp_path: Path, length: int) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b"{}")
    refusal(path)


def test_paths_that_are_not_regular_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    assert "not a regular file" in refusal(tmp_path / "pipe.safetensors")
    assert tnrd_file(str(tmp_path / "pipe.safetensors")) is None
    assert "not a regular file" in refusal(Path("/dev/zero"))
    assert "not a regular file" in refusal(tmp_path)
    for path in (tmp_path / ("a" * 300), Path("a\0b")):
        with pytest.raises(ModelError):
            load_model(path)


@pytest.mark.parametrize("seed", range(8))
def test_damage_anywhere(tmp_path: Path, seed: int) -> None:
    """If header bytes change, repeat or vanish, the result is a model or a `ModelError`."""
    rng = np.random.default_rng(seed)
    data = QUANTIZED.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    path = tmp_path / "m.safetensors"
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            start, length = int(rng.integers(0, end)), int(rng.integers(1, 12))
            match rng.integers(3):
                case 0:
                    damaged[start] = int(rng.integers(256))
                case 1:
                    damaged[start:start] = damaged[start : start + length]
                case 2:
                    del damaged[start : start + length]
        if rng.integers(2):  # otherwise the header's length reveals most damage
            text = len(damaged) - len(data) + end - 8
            damaged[:8] = text.to_bytes(8, "little")
        path.write_bytes(damaged)
        with contextlib.suppress(ModelError):
            assert isinstance(load_model(path), Model)


def test_known_networks_are_far_below_the_limits() -> None:
    """The limits are at least ten times what any known network needs."""
    known = [packaged.find(name).spec for name in packaged.names()]
    known += [srcnn(scale, middle=middle) for scale in range(1, 9) for middle in (1, 5)]
    known += [espcn(scale, upsampling="bicubic") for scale in (2, 3, 4)]
    for spec in known:
        assert 10 * len(spec.layers) <= MAX_LAYERS
        assert 10 * max(each.kernel for each in spec.layers) <= MAX_KERNEL_PX
        assert 10 * max(each.outputs for each in spec.layers) <= MAX_CHANNELS
        assert 10 * spec.macs_per_lr_pixel <= MAX_MACS
        assert 10 * spec.halo_px <= MAX_HALO_PX


def test_limits_apply_to_specs_from_code_too() -> None:
    with pytest.raises(ModelError, match="129 layers are more than the limit of 128"):
        ModelSpec(1, (Convolution(1, 1, 1),) * 129)
    assert ModelSpec(1, (Convolution(1, 1, 1),) * 128).macs_per_lr_pixel == 128
    with pytest.raises(TypeError, match=r"scale must be int, not 2\.5"):
        replace(espcn(3), scale=2.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="layer 0: kernel must be int, not '3'"):
        ModelSpec(2, (Convolution(1, 4, "3"),))  # type: ignore[arg-type]
