"""What the runs of a cross-validation come to together."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from featurize.dataset.schema import FOLDS
from train.config import TrainConfig, TrainError

_FIGURES = ("accuracy", "macro_f1")


def fold_configs(config: TrainConfig) -> list[TrainConfig]:
    """Return the settings of each fold's run: each fold is the test fold once, and never the validation fold, too.

    Raises:
        TrainError: the validation fold is a number, which would be a test fold as well.
    """
    if isinstance(config.validation_fold, int):
        raise TrainError(
            f"train.validation_fold = {config.validation_fold}, but in a cross-validation each fold is the test "
            "fold once. Type --set train.validation_fold=next, or none."
        )
    return [
        TrainConfig.model_validate(
            {**config.model_dump(), "test_fold": fold, "validation_fold": config.validation_fold}
        )
        for fold in range(FOLDS)
    ]


def summarize(metrics: Sequence[dict[str, Any]], baseline: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Put the folds of a cross-validation together.

    Args:
        metrics: the content of each fold's `metrics.json`.
        baseline: the scores of the SVM on the tracks of each fold.

    Returns:
        `folds`, the figures of each; `mean` and `deviation` (population) of each figure over the folds; and the
        `confusion` of segments, tracks and the SVM, added up over the folds.
    """
    scores = {
        "tracks": [fold["tracks"] for fold in metrics],
        "segments": [fold["segments"] for fold in metrics],
        "svm_tracks": list(baseline),
    }
    values = {
        part: {figure: np.array([fold[figure] for fold in folds]) for figure in _FIGURES}
        for part, folds in scores.items()
    }

    def over_folds(function: Any) -> dict[str, dict[str, float]]:
        return {
            part: {figure: float(function(each)) for figure, each in figures.items()}
            for part, figures in values.items()
        }

    return {
        "model": metrics[0]["model"],
        "classes": metrics[0]["classes"],
        "folds": [
            {
                "fold": fold["test_fold"],
                "epoch": fold["epoch"],
                "count": fold["tracks"]["count"],
                **{part: {f: float(v[i]) for f, v in figures.items()} for part, figures in values.items()},
            }
            for i, fold in enumerate(metrics)
        ],
        "mean": over_folds(np.mean),
        "deviation": over_folds(np.std),
        "confusion": {
            part: np.sum([fold["confusion"] for fold in folds], axis=0).tolist() for part, folds in scores.items()
        },
    }
