"""How groups are assigned to folds, compared with scikit-learn."""

import warnings

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from featurize.dataset.schema import FOLDS
from featurize.planning.folds import assign_folds

collections = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 25)), min_size=20, max_size=120)


def _codes(values):
    return np.unique(np.array(values, dtype=object).astype(str), return_inverse=True)[1]


@settings(max_examples=80)
@given(tracks=collections, order=st.randoms(use_true_random=False), share=st.floats(0, 1))
def test_folds_do_not_depend_on_track_order_and_fixed_groups_keep_their_fold(tracks, order, share):
    labels, groups = _codes([a for a, _ in tracks]), _codes([b for _, b in tracks])
    kept = np.full(groups.max() + 1, -1)
    folds = assign_folds(labels, groups, kept)
    assert set(folds) <= set(range(FOLDS))
    shuffled = np.arange(len(tracks))
    order.shuffle(shuffled)
    assert (assign_folds(labels[shuffled], groups[shuffled], kept) == folds).all()
    known = np.arange(len(kept)) < share * len(kept)
    kept[known] = np.arange(known.sum()) % FOLDS
    assert (assign_folds(labels, groups, kept)[known] == kept[known]).all()


@given(counts=st.lists(st.integers(5, 40), min_size=2, max_size=5))
def test_folds_without_groups_have_every_class_evenly(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    folds = assign_folds(labels, np.arange(len(labels)), np.full(len(labels), -1))
    for c, count in enumerate(counts):
        held = np.bincount(folds[labels == c], minlength=FOLDS)
        assert held.sum() == count
        assert held.max() - held.min() <= 1 + count // 20


@settings(max_examples=60)
@given(tracks=collections.filter(lambda tracks: len({b for _, b in tracks}) >= FOLDS))
def test_folds_are_as_even_as_those_of_scikit_learn(tracks):
    labels, groups = _codes([a for a, _ in tracks]), _codes([b for _, b in tracks])
    ours = assign_folds(labels, groups, np.full(groups.max() + 1, -1))[groups]
    theirs = np.empty(len(labels), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about classes with fewer tracks than folds
        splits = StratifiedGroupKFold(FOLDS).split(labels, labels, groups)
        for fold, (_, members) in enumerate(splits):
            theirs[members] = fold

    def unevenness(folds):
        held = np.array(
            [[(folds[labels == c] == k).mean() for k in range(FOLDS)] for c in range(labels.max() + 1)]
        )
        return held.std(axis=1).mean()

    # The same algorithm; ties, which scikit-learn leaves to rounding, lead to other folds of similar evenness.
    assert unevenness(ours) <= 1.5 * unevenness(theirs) + 0.02
