"""When training must not go on in the folder of a run, or its files do not fit together."""

import hashlib

from featurize.dataset.dataset import Dataset
from featurize.display import one_line
from train.config import TrainConfig
from train.errors import TrainError
from train.records import ModelInfo
from train.run import ORDER, TRAIN_AGAIN, Run
from train.run_folders import RUNS_INSIDE, runs_inside
from train.score_records import Metrics


def refuse_other_settings(run: Run, dataset: Dataset, config: TrainConfig) -> None:
    """Check that a run that has begun was started with the same dataset and settings.

    Args:
        run: Run folder.
        dataset: Dataset.
        config: Settings.

    Raises:
        TrainError: It was not; the message lists all differences.
    """
    if not (previous := run.info()):
        return
    defaults = {name: field.get_default() for name, field in TrainConfig.model_fields.items()}
    recorded = {**defaults, **previous.train}  # an earlier version may have had fewer settings
    changes = [
        f"train.{key}: {recorded.get(key)!r} there, {value!r} now"
        for key, value in config.model_dump().items()
        if key not in config.may_change and recorded.get(key) != value
    ]
    if previous.dataset != dataset.id:
        changes.append(f"dataset: {one_line(previous.dataset)} there, {dataset.id} now")
    if changes:
        raise TrainError(
            f"{run.folder} holds a run made with other settings:\n"
            + "\n".join(f"  - {change}" for change in changes)
            + "\nGive another --out, or the same settings to continue this run."
        )


def refuse_other_order(run: Run) -> None:
    """Check that training continues in the order of segments in which it began.

    Raises:
        TrainError: The run has checkpoints of a version of Earmark that reads segments in another order.
    """
    info = run.info()
    if info and info.order != ORDER and (step := run.latest_step()):
        raise TrainError(
            f"{run.folder} was trained to step {step} by {'a later' if info.order > ORDER else 'an earlier'} "
            f"version of Earmark, which reads segments in another order (version {info.order}, here {ORDER}), "
            "so the rest of the training would not be that of one run. Train again with another --out, or "
            "continue with the version that began it."
        )


def refuse_removed(run: Run) -> None:
    """Raise a TrainError if the folder of a run that has begun is gone: writing would create it again."""
    if not (run.folder / "run.json").is_file():
        raise TrainError(
            f"{run.folder} was removed or replaced while its model was trained: run.json is missing. Run the "
            "same command again to train from the start, or restore the folder first."
        )


def refuse_other_model(run: Run, info: ModelInfo, dataset: Dataset) -> None:
    """Raise a TrainError if model.json has other classes or features than the dataset that it names."""
    if (info.classes, info.features) != (dataset.classes, dataset.info.settings.model_dump()):
        raise TrainError(
            f"the classes or features of {run.folder / 'model.json'} are not those of "
            f"{dataset.folder / 'dataset.json'}, although both name the same dataset: one of them was "
            f"changed. {TRAIN_AGAIN}"
        )


def refuse_runs_inside(run: Run) -> None:
    """Raise a TrainError if a new run would be begun in the folder of a cross-validation or a search."""
    if (inside := runs_inside(run.folder)) and not run.info():
        raise TrainError(
            f"{run.folder} holds {inside}, so no other run is begun there. Give another --out, or "
            "continue them with the same crossval or tune command."
        )


def refuse_other_runs(run: Run, kind: str) -> None:
    """Raise a TrainError if folds or trials would be begun in the folder of a run, or beside each other.

    Args:
        run: Run whose folder is to hold them.
        kind: `fold` or `trial`.
    """
    if runs_inside(run.folder, [kind]):
        return  # they are continued
    if found := "a run" if run.info() else runs_inside(run.folder):
        raise TrainError(
            f"{run.folder} holds {found}, so {RUNS_INSIDE[kind]} are not begun there. Give another --out."
        )


def metrics_of_model(run: Run) -> Metrics:
    """Return the metrics of a run, which are those of its model, if the model is still there.

    Raises:
        TrainError: It is not evaluated, or a later model is not.
    """
    if not (metrics := run.metrics()):
        raise TrainError(f"{run.folder} is not evaluated yet. Type: earmark evaluate {run.folder.quoted}")
    if run.model.is_file() and metrics.model_sha256 != sha256_of_model(run):
        raise TrainError(
            f"{run.folder} has the metrics of another model than {run.model.name}, which is not evaluated yet. "
            f"Type: earmark evaluate {run.folder.quoted}"
        )
    return metrics


def sha256_of_model(run: Run) -> str:
    """Return the SHA-256 of the model, in hexadecimal."""
    return hashlib.sha256(run.model.read()).hexdigest()
