"""Helpers of the tests that run whole video jobs."""

from fractions import Fraction

from video_files import packets

SEGMENT = 10


def hidden(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def assert_same_packets(source, output, tolerance=Fraction(0)):
    """Assert that all streams but the video have the same data at the same times."""
    before, after = packets(source), packets(output)
    assert len(before) == len(after)
    for ours, theirs in zip(after, before, strict=True):
        assert [data for data, _ in ours] == [data for data, _ in theirs]
        assert max(abs(a - b) for (_, a), (_, b) in zip(ours, theirs, strict=True)) <= tolerance
