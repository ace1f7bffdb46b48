"""The instruction sets that there are, and which of them this processor has."""

import os
import platform

from subpixel.engines.native.amx.instructions import Amx, AmxIn512
from subpixel.engines.native.avx2 import Avx2
from subpixel.engines.native.avx512 import Avx512
from subpixel.engines.native.avx512_vnni import Avx512Vnni
from subpixel.engines.native.avx_vnni import AvxVnni, AvxVnniIn512
from subpixel.engines.native.instructions import InstructionSet
from subpixel.engines.native.neon import Neon
from subpixel.engines.native.neon_dotprod import NeonDotprod
from subpixel.engines.native.neon_i8mm import NeonI8mm
from subpixel.engines.native.processor import features
from subpixel.errors import EngineError

TARGETS: dict[str, InstructionSet] = {
    instructions.name: instructions
    for instructions in (
        *(Amx(), Avx512Vnni(), AvxVnni(), Avx512(), Avx2(), AvxVnniIn512(), AmxIn512()),
        *(NeonI8mm(), NeonDotprod(), Neon()),
    )
}
"""By name, for each architecture the fastest first."""

NAMES = [name for name, instructions in TARGETS.items() if not instructions.for_tests]
"""Those for users."""

OLD_NAMES = {"vnni": "avx512_vnni"}
"""Names of earlier versions, which still work."""

TARGET_VARIABLE = "SUBPIXEL_TARGET"
"""Environment variable that names the instruction set to use."""


def find(name: str | None = None) -> InstructionSet:
    """Return the instruction set of a name.

    By default, this is the name in the environment variable ``SUBPIXEL_TARGET``, or else the fastest
    instruction set that this processor has.

    Raises `EngineError` if the name is unknown, or if this processor lacks its instructions.
    """
    name = name or os.environ.get(TARGET_VARIABLE)
    name = OLD_NAMES.get(name, name) if name else None
    if name is not None and name not in TARGETS:
        raise EngineError(f"unknown target {name!r}; known: {', '.join(NAMES)}")
    names = NAMES if name is None else [name]
    for each in names:
        if runs_here(TARGETS[each]):
            return TARGETS[each]
    raise EngineError(f"this processor has no {' or '.join(names)}: engine native does not run here")


def runs_here(instructions: InstructionSet) -> bool:
    """Whether this processor has an instruction set."""
    return platform.machine() in instructions.machines and features().issuperset(instructions.needs)
