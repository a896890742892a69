"""Which epoch is the best one, and when further ones are not worth the while: what the validation fold says."""

from collections.abc import Sequence

from train.config import TrainConfig
from train.records import EpochRecord


def rank(entry: EpochRecord, config: TrainConfig) -> tuple[float, float]:
    """Rank an epoch by the figure that `select_by` names; among equals by the loss of the validation segments."""
    figures = entry.held_out["validation"]
    figure: float = getattr(figures, config.select_by)
    return -figure if config.select_by == "loss" else figure, -figures.loss


def best_epoch(history: Sequence[EpochRecord], config: TrainConfig) -> int:
    """Return the number of the best epoch, the first of several; the last one where nothing was validated."""
    if config.validation_fold == "none":
        return len(history)
    return max(history, key=lambda entry: rank(entry, config)).epoch


def is_best(history: Sequence[EpochRecord], config: TrainConfig) -> bool:
    """Say whether the latest epoch is better than all before it."""
    return config.validation_fold != "none" and best_epoch(history, config) == len(history)


def should_stop(history: Sequence[EpochRecord], config: TrainConfig) -> bool:
    """Say whether all epochs are done, or `patience` of them have brought nothing better."""
    if len(history) >= config.epochs:
        return True
    return (
        bool(history)
        and config.patience is not None
        and (len(history) - best_epoch(history, config) >= config.patience)
    )
