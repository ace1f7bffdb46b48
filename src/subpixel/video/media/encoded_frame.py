"""`EncodedFrame`: what the encoder gives to the writers of files."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EncodedFrame:
    """One encoded frame. Times are in the encoder's time base."""

    data: bytes
    pts: int
    dts: int
    duration: int
    is_keyframe: bool
