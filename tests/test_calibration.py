"""The calibration error against its definition, and the temperature against one that is known."""

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from train.evaluation.calibration import BINS, ReliabilityCounts, fit_temperature


def reliability(probabilities, labels):
    counts = ReliabilityCounts()
    half = len(labels) // 2
    counts.add(probabilities[:half], labels[:half])
    counts.add(probabilities[half:], labels[half:])
    return counts.result()


def sampled(random, tracks, classes, per_track=1):
    """Return logits whose softmax is the probability of the labels, and labels drawn from it."""
    logits = 2 * random.standard_normal((tracks, classes))
    probabilities = scipy.special.softmax(logits, axis=1)
    labels = np.array([random.choice(classes, p=row) for row in probabilities])
    return np.repeat(logits, per_track, axis=0), np.repeat(labels, per_track)


def test_probabilities_of_which_the_labels_were_drawn_are_calibrated():
    logits, labels = sampled(np.random.default_rng(0), 20_000, 4)
    found = reliability(scipy.special.softmax(logits, axis=1), labels)
    assert found.error < 0.015  # about 0.008 by chance alone
    assert sum(found.count) == 20_000
    sharper = reliability(scipy.special.softmax(3 * logits, axis=1), labels)
    assert sharper.error > 0.1


def test_the_error_is_the_weighted_difference():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [1.0, 0.0]])
    found = reliability(probabilities, np.array([0, 1, 1, 0]))
    assert found.error == pytest.approx((2 * abs(0.9 - 0.5) + abs(0.8 - 1) + abs(1 - 1)) / 4)
    assert found.count[BINS - 1] == 1
    assert found.accuracy[13] == pytest.approx(0.5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("per_track", [1, 4])
def test_a_known_temperature_is_found(temperature, per_track):
    logits, labels = sampled(np.random.default_rng(1), 5000, 5, per_track)
    miscalibrated = scipy.special.softmax(temperature * logits, axis=1)
    assert fit_temperature(miscalibrated, labels, per_track) == pytest.approx(temperature, rel=0.08)


@settings(max_examples=40)
@given(st.integers(1, 30), st.integers(2, 6), st.integers(1, 3), st.integers(0, 1000))
def test_any_predictions_have_a_finite_temperature(tracks, classes, per_track, seed):
    random = np.random.default_rng(seed)
    labels = np.repeat(random.integers(classes, size=tracks), per_track)
    certain = np.eye(classes)[random.integers(classes, size=tracks * per_track)]
    assert 0.049 < fit_temperature(certain, labels, per_track) < 20.1
    found = reliability(certain, labels)
    assert 0 <= found.error <= 1
