"""Which train settings exclude each other, and earlier names of settings.

The range of a single setting is declared with it in `train.config`.
"""

from typing import TYPE_CHECKING, Any

from train.model_names import MODELS

if TYPE_CHECKING:
    from train.config import TrainConfig

MOST_PROFILED = 200  # steps: a profile is held in memory, and takes some hundred kilobytes a step

_EARLIER_NAMES = {"normalise": "normalize"}


def with_present_names(settings: dict[str, Any]) -> dict[str, Any]:
    """Return `train` settings that an earlier version may have recorded, with the names that they have now."""
    renamed = {old: new for old, new in _EARLIER_NAMES.items() if new not in settings}
    return {renamed.get(name, name): value for name, value in settings.items()}


def refuse_elastic_workers(config: "TrainConfig") -> None:
    """Raise a ValueError if a range of workers leaves no choice, or cannot share the batches."""
    workers = config.worker_range
    fewest, most = workers.fewest, workers.most
    if workers.is_elastic and workers.on_cpus:
        if len(workers.usable) == 1 and fewest < most:
            raise ValueError(
                f"workers = {config.workers} on CPUs leaves no choice, because the workers share the batch in "
                f"{workers.parts} equal parts, which of these numbers only {most} divides. Set a range such as "
                f"{max(1, most // 2)}..{most // 2 * 2 or 1}"
            )
        if workers.parts > config.batch_size:
            raise ValueError(
                f"the {workers.parts} parts that workers = {config.workers} divides batches into cannot share "
                f"batches of {config.batch_size} segments"
            )


def refuse_combinations(config: "TrainConfig") -> None:
    """Raise a ValueError if settings exclude each other."""
    if config.model_settings and config.model in MODELS:
        raise ValueError(
            f"model_settings are for a function of yours that builds the model, not for model = {config.model}"
        )
    if config.replicas is not None and config.replicas > config.batch_size:
        raise ValueError(f"{config.replicas} replicas cannot share batches of {config.batch_size} segments")
    if config.needs_workers and config.replicas is not None:
        raise ValueError(
            f"replicas = {config.replicas} requires workers = 1; each of the {config.workers} workers uses "
            "gpus_per_worker GPUs, or one CPU"
        )
    if config.needs_workers and config.all_reduce == "hierarchical":
        raise ValueError("all_reduce = hierarchical requires workers = 1; set auto or nccl for several workers")
    if config.patience is not None and not config.selects_epoch:
        raise ValueError(
            f"patience = {config.patience} needs a validation_fold to watch: next, a number, or split if the "
            "collection has an official validation split. The test fold must not decide when to stop"
        )
    if config.profiled and not config.profiled[0] <= config.profiled[1] < config.profiled[0] + MOST_PROFILED:
        raise ValueError(
            f"profile_steps = {config.profile_steps} should be from a step to a later one, at most "
            f"{MOST_PROFILED} of them, such as 100..110"
        )
    if config.calibrate and not config.selects_epoch:
        raise ValueError(
            "calibrate = true needs a validation_fold to fit the confidence to: next, a number, or split if "
            "the collection has an official validation split"
        )
    if config.ensemble > 1 and config.best_epoch_on_test:
        raise ValueError("best_epoch_on_test = true requires ensemble = 1: the best epochs of the members differ")
    if config.ensemble > 1 and config.needs_workers:
        raise ValueError(
            f"ensemble = {config.ensemble} requires workers = 1. Members on several workers can be runs with "
            "different seeds"
        )
    if config.calibrate and config.needs_workers:
        raise ValueError("calibrate = true requires workers = 1")
    if config.warmup_epochs >= config.epochs:
        raise ValueError(f"warmup_epochs = {config.warmup_epochs:g} must be less than epochs = {config.epochs}")
