"""Plans are processed until they are done, or until an error that another attempt cannot fix."""

import pytest

from featurize.errors import CollectionLostError, FeaturizeError, Reject
from featurize.execution.crash_isolation import find_crashing_tracks
from featurize.execution.retries import run_with_retries
from featurize.planning.shard_plan import ShardPlan, Track
from featurize.storage import StoragePath

TIMEOUT = 5.0
CRASHED = Reject("decode", "crashed the decoder", "its process ended with SIGSEGV")


class FakePool:
    """A pool that runs nothing: `outcomes` has the results and errors of the attempts by plan name.

    With `newest_first`, the call that was submitted last is the first to finish.
    """

    def __init__(self, outcomes, crashing=None, size=1, newest_first=False):
        self.outcomes = outcomes
        self.crashing = crashing or {}
        self.size, self.newest_first = size, newest_first
        self.running = []
        self.calls = []
        self.max_running = 0

    def __len__(self):
        return len(self.running)

    @property
    def full(self):
        return len(self) >= self.size

    def submit(self, key, function, *arguments):
        self.calls.append(
            (function, arguments[0].name, *(dict(a) if isinstance(a, dict) else a for a in arguments[1:]))
        )
        if function is find_crashing_tracks:
            outcome = self.crashing.get(arguments[0].name, {})
        else:
            outcome = self.outcomes[arguments[0].name].pop(0)
        self.running.append((key, outcome))
        self.max_running = max(self.max_running, len(self))

    idle = 0

    def finished(self):
        yield self.running.pop(-1 if self.newest_first else 0)


def work(plan, *arguments):
    raise AssertionError("the fake pool calls nothing")


def plan(name):
    tracks = [Track(f"{name}/{letter}.mp3", f"{letter}.mp3", 0, 1) for letter in "abc"]
    return ShardPlan(name, StoragePath.of("/music"), tracks, {})


def results(pool, *names, arguments=("folder",)):
    plans = (plan(name) for name in names)
    return list(run_with_retries(pool, plans, TIMEOUT, work, *arguments, on_wait=lambda: None))


def test_the_function_is_called_once_for_each_plan_with_its_arguments():
    pool = FakePool({"one": ["first"], "two": ["second"]})
    assert results(pool, "one", "two", arguments=("folder", "filters")) == ["first", "second"]
    assert pool.calls == [(work, name, "folder", "filters", TIMEOUT, {}) for name in ("one", "two")]


def test_no_plans_give_no_results():
    assert results(FakePool({})) == []


def test_results_are_yielded_in_the_order_in_which_they_are_ready():
    names = ["one", "two", "three"]
    pool = FakePool({name: [name] for name in names}, size=3, newest_first=True)
    assert results(pool, *names) == ["three", "two", "one"]


def test_a_full_pool_gets_no_more_plans():
    taken = []
    plans = (taken.append(number) or plan(str(number)) for number in range(10))
    pool = FakePool({str(number): [number] for number in range(10)}, size=3)
    results_of_plans = run_with_retries(pool, plans, TIMEOUT, work, on_wait=lambda: None)
    assert next(results_of_plans) == 0
    assert taken == [0, 1, 2]
    assert sorted([0, *results_of_plans]) == list(range(10))
    assert pool.max_running == 3


def test_a_crashed_plan_is_tried_again_without_its_crashing_tracks():
    pool = FakePool({"one": [RuntimeError("died"), "first"], "two": ["second"]}, {"one": {"one/b.mp3": CRASHED}})
    assert sorted(results(pool, "one", "two")) == ["first", "second"]
    assert [call for call in pool.calls if call[1] == "one"] == [
        (work, "one", "folder", TIMEOUT, {}),
        (find_crashing_tracks, "one", TIMEOUT),
        (work, "one", "folder", TIMEOUT, {"one/b.mp3": CRASHED}),
    ]
    assert [call for call in pool.calls if call[1] == "two"] == [(work, "two", "folder", TIMEOUT, {})]


def test_excluded_tracks_accumulate_over_attempts():
    class Pool(FakePool):
        def submit(self, key, function, *arguments):
            if function is find_crashing_tracks:
                self.crashing = {"one": {next(self.letters): CRASHED}}
            super().submit(key, function, *arguments)

        letters = iter(["one/a.mp3", "one/c.mp3"])

    pool = Pool({"one": [RuntimeError("died"), RuntimeError("died"), "first"]})
    assert results(pool, "one") == ["first"]
    assert pool.calls[-1] == (work, "one", "folder", TIMEOUT, {"one/a.mp3": CRASHED, "one/c.mp3": CRASHED})


def test_three_failures_are_an_error_that_names_the_shard_and_its_tracks():
    died = [RuntimeError(f"died {attempt}") for attempt in (1, 2, 3)]
    pool = FakePool({"00007-x.parquet": list(died)})
    with pytest.raises(FeaturizeError) as error:
        results(pool, "00007-x.parquet")
    assert "3 times on 00007-x.parquet (00007-x.parquet/a.mp3 to 00007-x.parquet/c.mp3)" in str(error.value)
    assert str(error.value).endswith("died 3")
    assert error.value.__cause__ is died[2]
    assert [call[0] for call in pool.calls] == [work, find_crashing_tracks, work, find_crashing_tracks, work]


def test_failures_of_the_search_for_crashing_tracks_count():
    class Pool(FakePool):
        def submit(self, key, function, *arguments):
            super().submit(key, function, *arguments)
            if function is find_crashing_tracks:
                self.running[-1] = key, RuntimeError("the search died")

    pool = Pool({"one": [RuntimeError("died")]})
    with pytest.raises(FeaturizeError, match=r"failed 3 times on one .*the search died"):
        results(pool, "one")
    assert [call[0] for call in pool.calls] == [work, find_crashing_tracks, find_crashing_tracks]


def test_failures_of_one_plan_are_not_counted_for_another():
    names = [f"{number}" for number in range(4)]
    pool = FakePool({name: [RuntimeError("died"), RuntimeError("died"), name] for name in names}, size=4)
    assert sorted(results(pool, *names)) == names


def test_a_lost_collection_is_tried_again_without_a_search():
    lost = CollectionLostError("no mount")
    pool = FakePool({"one": [lost, lost, "first"]})
    assert results(pool, "one") == ["first"]
    assert pool.calls == [(work, "one", "folder", TIMEOUT, {})] * 3


def test_a_collection_that_stays_lost_raises_the_last_error():
    errors = [CollectionLostError(f"no mount {attempt}") for attempt in (1, 2, 3)]
    pool = FakePool({"one": list(errors)})
    with pytest.raises(CollectionLostError) as error:
        results(pool, "one")
    assert error.value is errors[2]
    assert len(pool.calls) == 3


@pytest.mark.parametrize("raised", [FeaturizeError("no space"), OSError(28, "No space left on device")])
def test_an_error_that_another_attempt_cannot_fix_is_raised_at_once(raised):
    pool = FakePool({name: [raised, name] for name in ("one", "two")})
    with pytest.raises(type(raised)) as error:
        results(pool, "one", "two")
    assert error.value is raised
    assert pool.calls == [(work, "one", "folder", TIMEOUT, {})]
