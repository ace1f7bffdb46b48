"""The warnings of Pillow, which mean that metadata is damaged."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.Lock()


@contextmanager
def caught_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """Collect the warnings of the body, instead of printing them. Other threads wait until it ends.

    Python's filters of warnings are the same for all threads: of two that change them at once, one would get
    the warnings of the other, and the last one would restore the filters of the other.
    """
    with _LOCK, warnings.catch_warnings(record=True, action="always") as caught:
        yield caught
