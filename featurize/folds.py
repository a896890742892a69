"""Which of the five folds each track belongs to: whole groups only, classes spread evenly."""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from featurize.dataset import FOLDS
from featurize.errors import FeaturizeError


def assign_folds(labels: Sequence[str], groups: Sequence[str]) -> NDArray[np.int64]:
    """Deal tracks into folds so that no group is split and every fold looks like the whole.

    The result depends only on which labels each group holds, not on the order of the tracks, the machine or a
    random number. The method is scikit-learn's `StratifiedGroupKFold`: groups, the most uneven first, go to
    the fold that keeps the class shares most alike.

    Args:
        labels: the class of each track.
        groups: the group of each track (an artist, an album, or the track itself).

    Returns:
        int64 [tracks], 0 to FOLDS - 1.

    Raises:
        FeaturizeError: there are fewer groups than folds, or no class has as many tracks as there are folds.
    """
    names, counts = np.unique(np.asarray(labels), return_counts=True)
    if counts.max(initial=0) < FOLDS:
        found = ", ".join(f"{name}: {count}" for name, count in zip(names, counts, strict=True))
        raise FeaturizeError(
            f"expected at least {FOLDS} tracks in a class, one for each fold; found {found or 'none'}. "
            "Add tracks to the collection."
        )
    different = sorted(set(groups))
    if len(different) < FOLDS:
        raise FeaturizeError(
            f"expected at least {FOLDS} groups, one for each fold; found {len(different)}: "
            f"{', '.join(different)}. Groups are never divided; --set featurize.group_by=none makes each track "
            "its own group."
        )
    folds = np.empty(len(labels), np.int64)
    with warnings.catch_warnings():
        # A class smaller than the folds is allowed here; training warns of classes that a fold lacks.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        splits = StratifiedGroupKFold(n_splits=FOLDS).split(np.zeros(len(labels)), labels, groups)
        for fold, (_, members) in enumerate(splits):
            folds[members] = fold
    return folds
