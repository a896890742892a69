"""Successive halving: which trials stop and which one is the best, whatever the order of arrival."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.tuning.halving import TrialProgress, outcome_of, rungs_of, stops_of

EPOCHS = 16
RUNGS = rungs_of(EPOCHS)


@pytest.mark.parametrize(("epochs", "rungs"), [(1, []), (2, [1]), (8, [1, 2]), (16, [1, 4]), (40, [3, 10])])
def test_trials_are_compared_after_a_sixteenth_and_a_quarter_of_their_epochs(epochs, rungs):
    assert rungs_of(epochs) == rungs


def progress(*figures: float, epochs: int = EPOCHS, **state: bool) -> TrialProgress:
    """Return a trial with a figure after each epoch, the best so far."""
    ranks = [(max(figures[:end]), 0.0) for end in range(1, len(figures) + 1)]
    return TrialProgress(epochs, tuple(ranks), **state)


def trained(figures, epochs: int = EPOCHS) -> TrialProgress:
    return progress(*figures, *[figures[-1]] * (epochs - len(figures)), epochs=epochs, trained=True)


def test_the_best_quarter_of_those_that_have_arrived_goes_on():
    ranks = [0.5, 0.4, 0.6, 0.6, 0.3, 0.9, 0.8, 0.8, 0.7]
    assert stops_of([progress(rank) for rank in ranks], [1]) == [
        *(None, 1, None, None),  # the first; worse; better; as good as the best
        *(1, None, 1, None, 1),  # two of eight go on: the eighth is as good as the second best
    ]


def test_a_decision_waits_for_earlier_trials_and_the_trial_goes_on():
    first, second = progress(0.5, 0.5, 0.5), progress(0.4, 0.4, 0.4, 0.4)
    assert stops_of([first, second], RUNGS) == [None, 1]
    assert stops_of([progress(0.5), progress(0.6, 0.6, 0.6, 0.6, 0.6)], RUNGS) == [None, None]
    assert stops_of([progress(0.5, 0.5, 0.5, 0.7), progress(0.6, 0.6, 0.6, 0.6, 0.6)], RUNGS) == [None, 4]
    # Whether the second goes beyond the fourth epoch is not known, so neither is whether it counts there.
    assert stops_of([progress(0.5), progress(0.6, 0.6, 0.6, 0.6, 0.6), progress(0.7, 0.7, 0.7, 0.7)], RUNGS) == [
        None,
        None,
        None,
    ]
    assert stops_of([progress(), progress(0.1)], RUNGS) == [None, None]


def test_a_trial_that_diverged_counts_where_it_was():
    assert stops_of([progress(0.5, 0.5, diverged=True), progress(0.4), progress(0.6)], RUNGS) == [None, 1, None]


def test_the_best_trial_is_trained_to_its_end_even_if_those_before_it_diverge():
    first = progress(0.9, diverged=True)
    second, third = progress(0.5), progress(0.6)
    assert outcome_of([first, second, third], RUNGS).extended == 2
    assert outcome_of([first, second, trained([0.6, 0.8])], RUNGS).best == 2
    assert outcome_of([first, second, progress(0.6, 0.7, diverged=True)], RUNGS).extended == 1
    everything = [first, progress(0.5, diverged=True), progress(0.6, 0.7, diverged=True)]
    outcome = outcome_of(everything, RUNGS)
    assert (outcome.best, outcome.extended) == (None, None)


curve = st.lists(st.integers(0, 9), min_size=EPOCHS, max_size=EPOCHS)
# Figures of each trial after all its epochs, and the number of epochs that it can be trained before it diverges.
searches = st.lists(st.tuples(curve, st.just(EPOCHS) | st.integers(0, EPOCHS - 1)), min_size=1, max_size=12)


def run(search, at_once: int, order: random.Random):
    """Train trials, a random one by an epoch at a time, as many at once as there are slots; return the outcome."""
    trials = [progress() for _ in search]
    running: set[int] = set()
    stopped: dict[int, int] = {}
    while True:
        outcome = outcome_of(trials, RUNGS)
        assert stopped.items() <= dict(enumerate(outcome.stops)).items()  # a decision is never taken back
        stopped = {index: stop for index, stop in enumerate(outcome.stops) if stop is not None}
        wanted = [
            index
            for index, trial in enumerate(trials)
            if not trial.is_over and (outcome.stops[index] is None or index == outcome.extended)
        ]
        running = {index for index in running if index in wanted}
        running |= set([index for index in wanted if index not in running][: at_once - len(running)])
        if not running:
            return outcome, trials
        index = order.choice(sorted(running))
        curve, limit = search[index]
        done = len(trials[index].ranks)
        if done == limit:
            trials[index] = progress(*map(float, curve[:done]), diverged=True)
        else:
            trials[index] = progress(*map(float, curve[: done + 1]), trained=done + 1 == EPOCHS)


@given(searches, st.integers(1, 5), st.randoms(use_true_random=False))
def test_the_outcome_depends_neither_on_the_trials_at_a_time_nor_on_the_order(search, at_once, order):
    expected, one_by_one = run(search, 1, random.Random(0))
    outcome, trials = run(search, at_once, order)
    assert outcome == expected
    for index, stop in enumerate(outcome.stops):
        assert stop is None or len(one_by_one[index].ranks) >= stop
    assert all(len(trial.ranks) >= len(alone.ranks) for trial, alone in zip(trials, one_by_one, strict=True))


@given(searches)
def test_the_best_is_trained_to_its_end_and_no_trial_that_counts_is_better(search):
    outcome, trials = run(search, 1, random.Random(0))
    assert outcome.extended is None
    if outcome.best is None:
        assert all(trial.diverged for trial in trials)
        return
    best = trials[outcome.best]
    assert best.trained
    for trial, stop in zip(trials, outcome.stops, strict=True):
        if not (trial.diverged and stop is None):
            assert best.ranks[-1] >= (trial.ranks[:stop] or [(-1.0, 0.0)])[-1]


@given(searches)
def test_most_of_the_epochs_are_saved(search):
    """Every trial after the first is compared with it, so no trial goes on that is worse than all before it."""
    outcome, trials = run([(curve, EPOCHS) for curve, _ in search], 1, random.Random(0))
    ranks = [trial.ranks[RUNGS[0] - 1] for trial in trials]
    for index, rank in enumerate(ranks[1:], 1):
        if all(rank < other for other in ranks[:index]):
            assert outcome.stops[index] == RUNGS[0]
            assert len(trials[index].ranks) == RUNGS[0]
