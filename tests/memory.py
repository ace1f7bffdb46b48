"""How much memory a process has taken at most, by Linux: a child's ``ru_maxrss`` begins with its parent's."""

from pathlib import Path

import pytest

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")

PEAK_CODE = """
def peak_kib():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""
"""For a child process."""


def needs_peak() -> None:
    """Skip where the system does not tell."""
    if not STATUS.exists() or "VmHWM" not in STATUS.read_text():
        pytest.skip("only Linux tells the peak of a process's memory here")


def reset_peak() -> None:
    """Let the peak be what is taken now."""
    RESET.write_text("5")


def peak_kib() -> int:
    """The peak of this process."""
    return int(STATUS.read_text().split("VmHWM:")[1].split()[0])
