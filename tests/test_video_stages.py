"""Stages of the video pipeline, timestamp repair and decoding times."""

import random
import threading
import time

import numpy as np
import pytest

from subpixel.video.media.timestamps import TimestampRepair
from subpixel.video.pipeline.encode import decoding_times
from subpixel.video.pipeline.stages import ParallelStage, Pipeline, PipelineClosed, Stage

# Times


def repaired(times, **metadata):
    repair = TimestampRepair(second=1000, step=40, **metadata)
    return [repair.repair(time) for time in times], repair.repaired


@pytest.mark.parametrize("jumps", [False, True])
def test_times_that_rise_are_left_alone(jumps):
    times = [-40, 0, 1, 40, 9_000, 15_000]
    assert repaired(times, jumps=jumps) == (times, 0)


def test_missing_times():
    assert repaired([None, None, 90, None]) == ([0, 40, 90, 130], 2)


def test_times_out_of_order():
    assert repaired([0, 40, 40, 39, 80]) == ([0, 40, 41, 42, 80], 2)


def test_a_clock_that_starts_anew():
    assert repaired([90_000, 90_040, 0, 40]) == ([90_000, 90_040, 90_080, 90_120], 2)


def test_a_single_time_far_ahead_is_damage():
    assert repaired([0, 40, 10**9, 120, 160], jumps=True) == ([0, 40, 80, 120, 160], 1)


def test_many_times_far_ahead_are_believed():
    later = [10**6 + 40 * number for number in range(8)]
    assert repaired([0, 40, *later], jumps=True)[0][-3:] == later[-3:]


@pytest.mark.parametrize("seed", range(20))
def test_decoding_times(seed):
    """They rise strictly, and never exceed the presentation times."""
    rng = random.Random(seed)
    shown = np.cumsum([rng.randint(1, 50) for _ in range(40)])
    order = sorted(range(40), key=lambda index: index + rng.choice([0, 0, 2.5, 3.5]))
    times = shown[order]
    decoding = decoding_times(times)
    assert (np.diff(decoding) > 0).all()
    assert (decoding <= times).all()


@pytest.mark.parametrize("jump", [10**4, 10**9])
def test_decoding_times_across_a_jump(jump):
    """No frame is decoded long before it is shown, which MP4 cannot store."""
    times = np.array([0, 3, 1, 2, 6, 4, 5, 9, 7, 8]) * 512
    times = np.concatenate([times, times + jump * 512])
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
    """Each stage waits until the other has begun, so neither would end alone."""
    first, second = threading.Event(), threading.Event()

    def produce():
        yield 1
        first.set()
        assert second.wait(60)
        yield 2

    def pass_on(items):
        for item in items:
            assert first.wait(60)
            second.set()
            yield item * 10

    pipeline = Pipeline()
    assert list(pipeline.add("b", pass_on, pipeline.add("a", produce))) == [10, 20]
    pipeline.close()


def test_a_stage_runs_ahead_only_as_far_as_its_queue():
    taken = []

    def count():
        for number in range(100):
            taken.append(number)
            yield number

    stage = Stage(count(), queue_size=3)
    assert next(stage) == 0
    time.sleep(0.3)
    assert len(taken) <= 6
    stage.close()


def test_an_error_follows_the_items_before_it():
    def fail():
        yield 1
        raise KeyError("gone")

    pipeline = Pipeline()
    last = pipeline.add("b", lambda items: (item for item in items), pipeline.add("a", fail))
    assert next(last) == 1
    with pytest.raises(KeyError, match="gone"):
        next(last)
    pipeline.close()


def test_a_closed_pipeline_is_not_an_end_of_input():
    """Otherwise the consumer would finish an incomplete file."""
    ends = []
    waiting = threading.Event()

    def source():
        yield 1
        waiting.set()
        while not pipeline._stages["a"]._stopped.is_set():
            time.sleep(0.01)

    def consume(items):
        yield from items
        ends.append("end")

    pipeline = Pipeline()
    last = pipeline.add("b", consume, pipeline.add("a", source))
    assert next(last) == 1
    assert waiting.wait(60)
    pipeline.close()
    assert ends == []
    with pytest.raises(PipelineClosed):
        next(last)


def test_parallel_calls_return_results_in_order():
    started = threading.Barrier(2, timeout=300)

    def work(number):
        if number < 2:
            started.wait()  # so the second begins before the first has ended
        time.sleep(0.02 * (number % 2 == 0))
        return number * 10

    pipeline, before = Pipeline(), time.perf_counter()
    stage = pipeline.add_parallel("work", work, iter(range(7)), 2)
    assert list(stage) == [0, 10, 20, 30, 40, 50, 60]
    assert 0.03 < pipeline.seconds()["work"] < time.perf_counter() - before
    assert pipeline.close()


@pytest.mark.parametrize("error", [KeyError, TimeoutError])
def test_errors_of_parallel_calls_come_in_order(error):
    def work(number):
        if number == 1:
            raise error("gone")
        return number

    pipeline = Pipeline()
    stage = pipeline.add_parallel("work", work, iter(range(5)), 3)
    assert next(stage) == 0
    with pytest.raises(error, match="gone"):
        next(stage)
    pipeline.close()
    with pytest.raises(PipelineClosed):
        next(stage)


def test_parallel_calls_run_ahead_only_as_far_as_the_queue():
    called, before = [], set(threading.enumerate())
    stage = ParallelStage(called.append, range(100), 2, queue_size=3)
    next(stage)
    time.sleep(0.3)
    assert len(called) <= 6
    stage.close()
    begun = set(threading.enumerate()) - before
    assert not [thread for thread in begun if thread.name.startswith("subpixel-stage")]


def test_seconds_of_a_stage_exclude_waiting():
    def slow():
        for _ in range(5):
            time.sleep(0.1)
            yield 0

    pipeline = Pipeline()
    list(pipeline.add("fast", lambda items: items, pipeline.add("slow", slow)))
    seconds = pipeline.seconds()
    pipeline.close()
    assert seconds["slow"] > 2 * seconds["fast"]  # with the waiting, the fast one is slower than the other
