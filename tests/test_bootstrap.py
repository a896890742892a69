"""Confidence intervals: against simulations with a known truth, and their invariants."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from train.evaluation import bootstrap
from train.evaluation.bootstrap import GroupCounts, ScoreIntervals, mcnemar, paired_differences


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """The predictions of a model: actual and predicted classes, and the group of each example."""

    labels: np.ndarray
    predicted: np.ndarray
    groups: np.ndarray
    classes: int

    def counts(self) -> GroupCounts:
        counts = GroupCounts(int(self.groups.max()) + 1, self.classes)
        half = len(self.labels) // 2
        for part in (slice(None, half), slice(half, None)):
            counts.add(self.groups[part], self.labels[part], self.predicted[part])
        return counts


def score_intervals(outcomes: Outcomes) -> ScoreIntervals | None:
    return bootstrap.score_intervals(outcomes.counts())


def artists(random, groups, classes, spread=2.0, most_tracks=8):
    """Return the outcomes of a model whose accuracy differs from artist to artist; each artist has one class."""
    labels, predicted, of_track = [], [], []
    for group in range(groups):
        label = group % classes
        tracks = random.integers(1, most_tracks + 1)
        correct = random.random(tracks) < random.beta(0.8 * spread, 0.2 * spread)
        wrong = (label + 1 + random.integers(classes - 1, size=tracks)) % classes
        labels += [label] * tracks
        predicted += np.where(correct, label, wrong).tolist()
        of_track += [group] * tracks
    return Outcomes(np.array(labels), np.array(predicted), np.array(of_track), classes)


def scores(outcomes):
    """Return accuracy, macro-F1 and the F1 of each class."""
    f1 = f1_score(
        outcomes.labels, outcomes.predicted, labels=range(outcomes.classes), average=None, zero_division=0
    )
    return float((outcomes.labels == outcomes.predicted).mean()), float(f1.mean()), f1


def coverage(groups, classes, trials):
    """Return how often the intervals of accuracy, macro-F1 and F1 contain the truth."""
    accuracy, macro_f1, f1 = scores(artists(np.random.default_rng(0), 30_000, classes))
    random, hits = np.random.default_rng(1), np.zeros(3)
    for _ in range(trials):
        found = score_intervals(artists(random, groups, classes))
        hits += [
            found.accuracy.low <= accuracy <= found.accuracy.high,
            found.macro_f1.low <= macro_f1 <= found.macro_f1.high,
            np.mean([low <= true <= high for (low, high), true in zip(found.f1, f1, strict=True)]),
        ]
    return hits / trials


def test_intervals_contain_the_truth_about_95_times_in_100():
    assert (np.abs(coverage(groups=30, classes=3, trials=200) - 0.95) <= 0.045).all()  # three standard errors


@pytest.mark.slow
@pytest.mark.parametrize(("groups", "classes"), [(12, 3), (60, 5)])
def test_coverage_for_few_and_for_many_groups(groups, classes):
    found = coverage(groups, classes, trials=500)
    print(groups, classes, found.round(3))
    assert ((found >= 0.92) & (found <= 0.985)).all()


def test_tracks_of_one_artist_are_no_independent_observations():
    random = np.random.default_rng(3)
    outcomes = artists(random, 40, 3, spread=0.5, most_tracks=30)
    each_alone = Outcomes(outcomes.labels, outcomes.predicted, np.arange(len(outcomes.labels)), 3)
    by_artist, by_track = score_intervals(outcomes).accuracy, score_intervals(each_alone).accuracy
    assert by_artist.high - by_artist.low > 2 * (by_track.high - by_track.low)


def test_independent_tracks_have_the_interval_of_a_binomial_distribution():
    random = np.random.default_rng(4)
    labels = random.integers(3, size=400)
    predicted = np.where(random.random(400) < 0.8, labels, (labels + 1) % 3)
    found = score_intervals(Outcomes(labels, predicted, np.arange(400), 3)).accuracy
    error = 1.96 * np.sqrt(0.8 * 0.2 / 400)
    assert (found.high - found.low) / 2 == pytest.approx(error, rel=0.15)


def test_a_perfect_score_on_few_groups_is_not_certain():
    labels = np.arange(20) % 2
    found = score_intervals(Outcomes(labels, labels, np.arange(20) // 2, 2))
    assert found.accuracy.high == found.macro_f1.high == 1
    assert found.accuracy.low == pytest.approx(0.722, abs=0.001)  # Wilson's for ten of ten
    assert [interval.low for interval in found.f1] == pytest.approx([0.722, 0.722], abs=0.001)


def test_one_group_has_no_interval():
    alone = Outcomes(np.array([0, 1]), np.array([0, 0]), np.array([0, 0]), 2)
    assert score_intervals(alone) is None
    assert paired_differences(alone.counts(), alone.counts()) is None


def test_a_class_without_examples_has_no_interval():
    found = score_intervals(Outcomes(np.array([0, 0, 2, 2]), np.array([0, 1, 2, 2]), np.arange(4), 3))
    assert found.f1[1] is None
    assert found.f1[0] is not None


def test_a_class_of_one_group_has_no_interval():
    labels, groups = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 2])
    found = score_intervals(Outcomes(labels, np.array([0, 0, 1, 1, 0]), groups, 2))
    assert found.f1[0] is None
    assert found.f1[1] is not None


@settings(max_examples=30)
@given(st.integers(2, 40), st.integers(2, 5), st.integers(0, 10_000))
def test_an_interval_contains_the_score_and_does_not_depend_on_the_order(groups, classes, seed):
    random = np.random.default_rng(seed)
    outcomes = artists(random, groups, classes)
    found = score_intervals(outcomes)
    accuracy, *_ = scores(outcomes)
    assert 0 <= found.accuracy.low <= accuracy <= found.accuracy.high <= 1
    order = random.permutation(len(outcomes.labels))
    other = Outcomes(outcomes.labels[order], outcomes.predicted[order], outcomes.groups[order], classes)
    assert score_intervals(other) == found


def test_many_groups_are_put_together_without_changing_the_interval(monkeypatch):
    outcomes = artists(np.random.default_rng(5), 4000, 4)
    exact = score_intervals(outcomes).accuracy
    monkeypatch.setattr(bootstrap, "_MOST_BLOCKS", 1000)
    found = score_intervals(outcomes).accuracy
    assert found.high - found.low == pytest.approx(exact.high - exact.low, rel=0.15)


def test_a_paired_difference_is_narrower_than_the_intervals_of_its_scores():
    random = np.random.default_rng(6)
    first = artists(random, 60, 3)
    worse = random.random(len(first.labels)) < 0.1
    second = Outcomes(first.labels, np.where(worse, (first.labels + 1) % 3, first.predicted), first.groups, 3)
    found = paired_differences(first.counts(), second.counts())
    for name, index in (("accuracy", 0), ("macro_f1", 1)):
        assert found[name].value == pytest.approx(scores(first)[index] - scores(second)[index])
        assert found[name].interval.low > 0
    alone = score_intervals(first).accuracy
    assert found["accuracy"].interval.high - found["accuracy"].interval.low < (alone.high - alone.low) / 2
    same = paired_differences(first.counts(), first.counts())
    assert same["accuracy"] == (0.0, (0.0, 0.0))


def test_paired_differences_of_equal_models_cover_zero():
    random, covered = np.random.default_rng(7), 0
    for _ in range(100):
        first = artists(random, 30, 3)
        predicted = np.where(random.random(len(first.labels)) < 0.8, first.labels, (first.labels + 1) % 3)
        other = np.where(random.random(len(first.labels)) < 0.8, first.labels, (first.labels + 1) % 3)
        pair = [Outcomes(first.labels, each, first.groups, 3).counts() for each in (predicted, other)]
        low, high = paired_differences(*pair)["accuracy"].interval
        covered += low <= 0 <= high
    assert 88 <= covered <= 100


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"), [(0, 0, 1), (6, 0, 0.03125), (5, 5, 1), (8, 2, 0.109375)]
)
def test_mcnemar(only_first, only_second, p):
    first = np.array([True] * only_first + [False] * only_second + [True] * 3)
    second = np.array([False] * only_first + [True] * only_second + [True] * 3)
    assert mcnemar(first, second) == pytest.approx(p)
