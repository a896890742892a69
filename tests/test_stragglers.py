"""The last plans of a run are started a second time if they take much longer than the others."""

import time

import pytest

from featurize.execution.ray_tasks import RayTaskPool
from featurize.execution.retries import run_with_retries
from featurize.execution.stragglers import Stragglers
from featurize.planning.shard_plan import ShardPlan, Track
from featurize.storage import StoragePath


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def stragglers(clock):
    """Five plans have ended after 20 s each, and `slow` and `slower` are running."""
    found = Stragglers(clock)
    for name in ("slow", "slower", *range(5)):
        found.start(name)
    clock.seconds = 20.0
    for name in range(5):
        found.end(name)
    return found


def test_plans_that_run_four_times_the_median_beside_idle_workers_are_chosen_once(stragglers, clock):
    assert stragglers.choose(2) == []  # a worker is free from now on
    clock.seconds += 80
    assert stragglers.choose(2) == []
    clock.seconds += 1
    assert stragglers.choose(1) == ["slow"]
    assert stragglers.choose(2) == ["slower"]
    clock.seconds += 1000
    assert stragglers.choose(2) == []


def test_nothing_is_chosen_while_all_workers_are_busy(stragglers, clock):
    clock.seconds += 1000
    assert stragglers.choose(0) == []
    assert stragglers.choose(1) == []  # the plans may have waited for a worker until now
    clock.seconds += 81
    assert stragglers.choose(0) == []
    assert stragglers.choose(1) == []


def test_short_plans_and_few_plans_are_no_measure(clock):
    few = Stragglers(clock)
    for name in range(4):
        few.start(name)
    few.choose(1)
    clock.seconds = 0.1
    few.end(0)
    few.end(1)
    clock.seconds = 100.0
    assert few.choose(1) == []
    few.end(2)  # the median is 0.1 s, and at least 30 s must have passed
    assert few.choose(1) == [3]
    short = Stragglers(clock)
    for name in range(5):
        short.start(name)
    for name in range(4):
        short.end(name)
    short.choose(1)
    clock.seconds += 29
    assert short.choose(1) == []


@pytest.mark.slow
def test_the_first_copy_to_finish_wins_and_counts_once(ray_here, tmp_path, monkeypatch):
    def slow_at_first(plan, folder, timeout, excluded):
        """Take a moment; the plan `slow` takes minutes when it is run for the first time.

        It is defined here so that Ray sends its code: its workers cannot import this module.
        """
        marker = folder / plan.name
        first = not marker.exists()
        marker.touch()
        time.sleep(150 if first and plan.name == "slow" else 0.1)
        return plan.name, first

    monkeypatch.setattr("featurize.execution.stragglers._LEAST_SECONDS", 3.0)
    tracks = [Track("a.mp3", "a.mp3", 0, 1)]
    names = ["slow", *(f"quick {number}" for number in range(8))]
    plans = (ShardPlan(name, StoragePath.of("/music"), tracks, {}) for name in names)
    pool = RayTaskPool(2)
    started = time.monotonic()
    found = list(run_with_retries(pool, plans, 5.0, slow_at_first, tmp_path, on_wait=lambda: None))
    assert time.monotonic() - started < 120
    assert not len(pool)
    assert sorted(found) == sorted((name, name != "slow") for name in names)
