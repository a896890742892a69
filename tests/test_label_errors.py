"""Wrong labels are found among probabilities of known quality."""

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from train.evaluation.label_errors import find_label_errors


def noisy_labels(random, tracks, classes, share, sharpness):
    """Return probabilities of the true classes, given labels, and which labels were changed."""
    truth = random.integers(classes, size=tracks)
    logits = random.standard_normal((tracks, classes))
    logits[np.arange(tracks), truth] += sharpness
    changed = random.random(tracks) < share
    given_labels = np.where(changed, (truth + random.integers(1, classes, size=tracks)) % classes, truth)
    return scipy.special.softmax(logits, axis=1), given_labels.astype(np.int32), changed, truth


@pytest.mark.parametrize("classes", [3, 9])
def test_most_changed_labels_are_found(classes):
    probabilities, labels, changed, truth = noisy_labels(np.random.default_rng(0), 2000, classes, 0.05, 5.0)
    found = find_label_errors(probabilities, labels)
    hits = changed[found.tracks]
    assert hits.mean() > 0.8  # precision
    assert hits.sum() / changed.sum() > 0.8  # recall
    assert (found.suggested[hits] == truth[found.tracks][hits]).mean() > 0.9
    assert (np.diff(found.margin) <= 0).all()
    assert hits[: len(hits) // 2].mean() >= hits.mean()  # the surest first


def test_correct_labels_of_a_good_model_are_not_doubted():
    probabilities, labels, _, _ = noisy_labels(np.random.default_rng(1), 1000, 4, 0.0, 12.0)
    assert not len(find_label_errors(probabilities, labels).tracks)


def test_a_model_that_knows_nothing_doubts_few_labels():
    random = np.random.default_rng(2)
    labels = random.integers(3, size=300).astype(np.int32)
    same = np.full((300, 3), 1 / 3)
    assert not len(find_label_errors(same, labels).tracks)


@settings(max_examples=50)
@given(st.integers(1, 40), st.integers(2, 6), st.floats(0, 6), st.integers(0, 1000))
def test_what_is_found_is_always_another_class_that_is_more_probable(tracks, classes, sharpness, seed):
    probabilities, labels, _, _ = noisy_labels(np.random.default_rng(seed), tracks, classes, 0.2, sharpness)
    found = find_label_errors(probabilities, labels)
    assert len(set(found.tracks.tolist())) == len(found.tracks)
    assert (found.suggested != labels[found.tracks]).all()
    own = probabilities[found.tracks, labels[found.tracks]]
    np.testing.assert_allclose(found.margin, probabilities[found.tracks, found.suggested] - own)
    assert (found.margin > 0).all()
