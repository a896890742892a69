"""Which epoch is the best one, and when further ones are not worth the while: what the validation fold says."""

from collections.abc import Sequence
from typing import Any

from train.config import TrainConfig


def rank(entry: dict[str, Any], config: TrainConfig) -> tuple[float, float]:
    """Rank an epoch by the figure that `select_by` names; among equals by the loss of the validation segments."""
    figures = entry["validation"]
    sign = -1 if config.select_by == "loss" else 1
    return sign * figures[config.select_by], -figures["loss"]


def best_epoch(history: Sequence[dict[str, Any]], config: TrainConfig) -> int:
    """Return the number of the best epoch, the first of several; the last one where nothing was validated."""
    if config.validation_fold == "none":
        return len(history)
    best: int = max(history, key=lambda entry: rank(entry, config))["epoch"]
    return best


def is_best(history: Sequence[dict[str, Any]], config: TrainConfig) -> bool:
    """Say whether the latest epoch is better than all before it."""
    return config.validation_fold != "none" and best_epoch(history, config) == len(history)


def should_stop(history: Sequence[dict[str, Any]], config: TrainConfig) -> bool:
    """Say whether all epochs are done, or `patience` of them have brought nothing better."""
    if len(history) >= config.epochs:
        return True
    return (
        bool(history)
        and config.patience is not None
        and (len(history) - best_epoch(history, config) >= config.patience)
    )
