"""Choose the best epoch by the validation fold, and decide when training ends."""

from collections.abc import Sequence

from train.config import TrainConfig
from train.records import EpochRecord
from train.run import Run


def rank(entry: EpochRecord, config: TrainConfig) -> tuple[float, float]:
    """Return the rank of an evaluated epoch: the figure named by `select_by`, then the validation loss.

    Higher is better.
    """
    figures = entry.held_out["validation"]
    figure: float = getattr(figures, config.select_by)
    return -figure if config.select_by == "loss" else figure, -figures.loss


def best_epoch(history: Sequence[EpochRecord], config: TrainConfig) -> int:
    """Return the number of the best evaluated epoch, the first of equals; 0 if none has been evaluated.

    It is the last epoch if there is no validation fold.
    """
    if not config.selects_epoch:
        return len(history)
    evaluated = [entry for entry in history if entry.validation]
    return max(evaluated, key=lambda entry: rank(entry, config)).epoch if evaluated else 0


def is_best(history: Sequence[EpochRecord], config: TrainConfig) -> bool:
    """Return whether the latest epoch is better than all earlier ones; False if there is no validation fold."""
    return config.selects_epoch and best_epoch(history, config) == len(history) > 0


def should_stop(history: Sequence[EpochRecord], config: TrainConfig) -> bool:
    """Return whether all epochs are finished, or the last `patience` epochs did not improve on the best one.

    After an epoch that was not evaluated, training goes on.
    """
    if len(history) >= config.epochs:
        return True
    return (
        config.patience is not None
        and bool(history)
        and history[-1].validation is not None
        and (len(history) - best_epoch(history, config) >= config.patience)
    )


def is_trained(run: Run, config: TrainConfig) -> bool:
    """Return whether the run has a model and all its epochs are finished."""
    info = run.model_info()
    history = run.history()
    return bool(run.model.is_file() and info and info.epochs == len(history) and should_stop(history, config))
