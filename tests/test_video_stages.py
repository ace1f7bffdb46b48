"""Stages of the video pipeline, and the timestamps that pass through them."""

import random
import threading
import time

import numpy as np
import pytest

from subpixel.video.media.timestamps import Clock
from subpixel.video.pipeline.encode import decoding_times
from subpixel.video.pipeline.stages import Closed, Line, Overlapped, Parallel

# Times


def mended(times, **metadata):
    clock = Clock(second=1000, step=40, **metadata)
    return [clock.mend(time) for time in times], clock.mended


@pytest.mark.parametrize("jumps", [False, True])
def test_times_that_rise_are_left_alone(jumps):
    times = [-40, 0, 1, 40, 9_000, 15_000]
    assert mended(times, jumps=jumps) == (times, 0)


def test_missing_times():
    assert mended([None, None, 90, None]) == ([0, 40, 90, 130], 2)


def test_times_out_of_order():
    assert mended([0, 40, 40, 39, 80]) == ([0, 40, 41, 42, 80], 2)


def test_a_clock_that_starts_anew():
    assert mended([90_000, 90_040, 0, 40]) == ([90_000, 90_040, 90_080, 90_120], 2)


def test_a_single_time_far_ahead_is_damage():
    assert mended([0, 40, 10**9, 120, 160], jumps=True) == ([0, 40, 80, 120, 160], 1)


def test_many_times_far_ahead_are_believed():
    later = [10**6 + 40 * number for number in range(8)]
    assert mended([0, 40, *later], jumps=True)[0][-3:] == later[-3:]


@pytest.mark.parametrize("seed", range(20))
def test_decoding_times(seed):
    """Strictly rising, never behind the times shown, and what x264 itself gives for even steps."""
    rng = random.Random(seed)
    shown = np.cumsum([rng.randint(1, 50) for _ in range(40)])
    order = sorted(range(40), key=lambda place: place + rng.choice([0, 0, 2.5, 3.5]))
    times = shown[order]
    decoding = decoding_times(times)
    assert (np.diff(decoding) > 0).all()
    assert (decoding <= times).all()


@pytest.mark.parametrize("leap", [10**4, 10**9])
def test_decoding_times_across_a_leap(leap):
    """A picture is not decoded ages before it is shown, which MP4 cannot say."""
    times = np.array([0, 3, 1, 2, 6, 4, 5, 9, 7, 8]) * 512
    times = np.concatenate([times, times + leap * 512])
    decoding = decoding_times(times)
    assert (np.diff(decoding) > 0).all()
    assert (decoding <= times).all()
    assert (times - decoding).max() <= 70 * 512
    np.testing.assert_array_equal(decoding[:9], decoding_times(times[:10])[:9])


def test_decoding_times_without_reordering():
    np.testing.assert_array_equal(decoding_times(np.array([5, 6, 9])), [5, 6, 9])
    assert decoding_times(np.array([], np.int64)).size == 0
    assert decoding_times(np.array([7])).tolist() == [7]


# Stages


def test_stages_overlap():
    """Each waits until the other has begun: alone, neither would end."""
    first, second = threading.Event(), threading.Event()

    def produce():
        yield 1
        first.set()
        assert second.wait(10)
        yield 2

    def pass_on(items):
        for item in items:
            assert first.wait(10)
            second.set()
            yield item * 10

    line = Line()
    assert list(line.add("b", pass_on, line.add("a", produce))) == [10, 20]
    line.close()


def test_a_stage_goes_ahead_only_so_far():
    taken = []

    def count():
        for number in range(100):
            taken.append(number)
            yield number

    stage = Overlapped(count(), depth=3)
    assert next(stage) == 0
    time.sleep(0.3)
    assert len(taken) <= 6
    stage.close()


def test_an_error_comes_behind_what_was_before_it():
    def fail():
        yield 1
        raise KeyError("gone")

    line = Line()
    last = line.add("b", lambda items: (item for item in items), line.add("a", fail))
    assert next(last) == 1
    with pytest.raises(KeyError, match="gone"):
        next(last)
    line.close()


def test_a_closed_line_is_no_end_of_the_input():
    """Who waits must not take it for one, and finish a file that is not whole."""
    ends = []
    waiting = threading.Event()

    def source():
        yield 1
        waiting.set()
        while not line._stages["a"]._stopped.is_set():
            time.sleep(0.01)

    def consume(items):
        yield from items
        ends.append("end")

    line = Line()
    last = line.add("b", consume, line.add("a", source))
    assert next(last) == 1
    assert waiting.wait(5)
    line.close()
    assert ends == []
    with pytest.raises(Closed):
        next(last)


def test_calls_at_once_give_results_in_order():
    started = threading.Barrier(2, timeout=10)

    def work(number):
        if number < 2:
            started.wait()  # so the second begins before the first has ended
        time.sleep(0.02 * (number % 2 == 0))
        return number * 10

    line = Line()
    stage = line.add_calls("work", work, iter(range(7)), 2)
    assert list(stage) == [0, 10, 20, 30, 40, 50, 60]
    assert 0.03 < line.seconds()["work"] < 5
    assert line.close()


@pytest.mark.parametrize("error", [KeyError, TimeoutError])
def test_errors_of_calls_come_in_order(error):
    def work(number):
        if number == 1:
            raise error("gone")
        return number

    line = Line()
    stage = line.add_calls("work", work, iter(range(5)), 3)
    assert next(stage) == 0
    with pytest.raises(error, match="gone"):
        next(stage)
    line.close()
    with pytest.raises(Closed):
        next(stage)


def test_calls_go_ahead_only_so_far():
    called = []
    stage = Parallel(called.append, range(100), 2, depth=3)
    next(stage)
    time.sleep(0.3)
    assert len(called) <= 6
    stage.close()
    assert not any(thread.name.startswith("subpixel-stage") for thread in threading.enumerate())


def test_seconds_of_work_leave_waiting_out():
    def slow():
        for _ in range(5):
            time.sleep(0.05)
            yield 0

    line = Line()
    list(line.add("quick", lambda items: items, line.add("slow", slow)))
    seconds = line.seconds()
    line.close()
    assert seconds["slow"] > 5 * seconds["quick"]
