"""The code for networks for video on 64-bit Arm equals NumPy to the integer: compiled here, run by QEMU."""

import os
from pathlib import Path

import numpy as np
import pytest

from history_models import random_correction, video_model
from history_motion import CASES, expected_masks, expected_planes, nearly_smooth, noise, random_inputs, waves
from subpixel.engines.history import application, motion
from subpixel.engines.history.motion import MotionCompensation
from subpixel.engines.history.program import object_file
from subpixel.engines.native.targets import TARGETS
from test_history_code import assert_aligned, expected_alignment, random_fits, random_motion, written
from test_native_arm import COMPILER, EMULATOR, TRIPLE, emulated, run

FOLDER = Path(__file__).parent


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    program = tmp_path_factory.mktemp("arm") / "driver"
    run(COMPILER, "-O1", "-o", program, FOLDER / "arm_program.c")
    return program


@pytest.fixture
def on_arm(driver, tmp_path, monkeypatch):
    """Let `MotionCompensation` compile for Arm and run in the emulator, next to pages without access."""

    class ArmProgram:
        calls = 0

        def __init__(self, emit, arguments, instructions, *numbers):
            self.names, self.function = list(arguments), emit.__name__
            compiled, self.library = tmp_path / f"{self.function}.o", tmp_path / f"{self.function}.so"
            compiled.write_bytes(object_file(emit, instructions, *numbers, triple=TRIPLE))
            run(COMPILER, "-shared", "-nostartfiles", "-o", self.library, compiled)

        def call(self, **arguments):
            return lambda: self.run([arguments[name] for name in self.names])

        def run(self, given):
            owners = {
                id(each): each for each in (owner(array) for array in given if not isinstance(array, int))
            }
            places = {key: place for place, key in enumerate(owners)}
            request = [np.int64(len(owners)).tobytes()]
            for array in owners.values():
                request += [np.int64(array.nbytes).tobytes(), array.tobytes("A")]
            request.append(np.int64(len(given)).tobytes())
            for each in given:
                pair = (-1, each)
                if not isinstance(each, int):
                    pair = places[id(owner(each))], each.ctypes.data - owner(each).ctypes.data
                request.append(np.array(pair, np.int64).tobytes())
            ArmProgram.calls += 1
            command = EMULATOR, driver, self.library, self.function, ArmProgram.calls % 2
            environment = os.environ | {"QEMU_CPU": "cortex-a72", "QEMU_LD_PREFIX": f"/usr/{TRIPLE}"}
            output = np.frombuffer(run(*command, input=b"".join(request), env=environment), np.uint8)
            for array in owners.values():
                content, output = output[: array.nbytes], output[array.nbytes :]
                if array.flags.writeable:
                    array.reshape(-1).view(np.uint8)[:] = content
            assert not output.size

    for module in (motion, application):
        monkeypatch.setattr(module, "Program", ArmProgram)
    monkeypatch.setattr(motion.targets, "find", lambda name: TARGETS["neon"])


def owner(array):
    """The array whose memory an array is a part of."""
    return array if array.base is None else owner(array.base)


@emulated
@pytest.mark.parametrize("case", CASES, ids=str)
def test_motion_and_moved_inputs(case, on_arm):
    compensation = MotionCompensation(case.scale, case.history)
    for size in ((1, 1), (7, 17), (33, 16), (70, 31)):
        for now, before in (
            (noise(*size, 2), noise(*size, 2, seed=2)),
            (waves(*size), waves(*size, 1.3, -0.6)),
        ):
            found = compensation.align(now, before)
            assert_aligned(found, expected_alignment(case, now, before))
        inputs, aligned = random_inputs(case, *size), random_motion(case, found)
        expected = expected_planes(case, inputs, aligned.motion, aligned.detail, aligned.residual)
        np.testing.assert_array_equal(written(compensation, case, aligned, inputs), expected)


@emulated
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_masks(dtype, on_arm):
    for case in CASES[:3]:
        compensation = MotionCompensation(case.scale, case.history)
        for size in ((1, 1), (7, 17), (70, 97)):
            plane, now, before = nearly_smooth(*size, dtype)
            aligned = random_fits(compensation.align(now, before))
            expected = expected_masks(case, plane, now, before, aligned)
            for found, wanted in zip(compensation.masks(plane, aligned), expected, strict=True):
                np.testing.assert_array_equal(found, wanted)


@emulated
@pytest.mark.parametrize(("scale", "dtype"), [(2, "uint8"), (3, "uint16"), (4, "float32"), (4, "uint8")])
def test_corrections_are_applied(scale, dtype, on_arm):
    model = video_model(scale, bounded=scale < 4, bounded_in_motion=scale == 3)
    for size in ((1, 1), (5, 33)):
        given = random_correction(model, *size, dtype)
        applied = application.Application(model)
        for result, expected in zip(given.applied(applied), given.expected(model), strict=True):
            np.testing.assert_array_equal(result, expected)
        np.testing.assert_array_equal(applied.eight_bits(given.base), given.eight_bits)
