"""Cross-validation: a model for each training fold and seed, each trained and evaluated in a separate process.

One process for all folds would grow by 0.3 GB per fold, would take up to a minute to end in the last one, and
could not train several at a time. The process that starts the others imports no TensorFlow.
"""

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from featurize.dataset.dataset import Dataset, open_dataset
from featurize.dataset.output_folder import refuse_foreign_run_folder
from featurize.dataset.reader import in_threads
from featurize.display import one_line
from featurize.execution.ray_tasks import free_resources, on_cluster, ray_workers, run_all
from featurize.storage import StoragePath
from jobs.config import JobConfig
from jobs.errors import ConfigError
from jobs.fold_processes import Fold, run_folds
from jobs.provenance import usable_cores
from jobs.terminal.console import ConsoleReporter
from jobs.terminal.signals import noted_signals

if TYPE_CHECKING:
    from train.config import TrainConfig
    from train.evaluation.svm_baseline import ShardVectors
    from train.summary_records import CrossValidationSummary

_CORES_PER_FOLD = 8  # below it, one training uses all cores

_log = logging.getLogger(__name__)


def cross_validate(
    features: StoragePath,
    out: StoragePath,
    config: JobConfig,
    reporter: ConsoleReporter,
    at_once: int | None = None,
    seeds: int = 1,
    command: Sequence[str] | None = None,
    track: str | None = None,
) -> "CrossValidationSummary":
    """Train and evaluate models for each training fold, and an SVM for comparison; finished models are kept.

    Args:
        features: Dataset folder.
        out: Output folder, with a run folder for each fold and seed, the summary `crossval.json`, the SVM's
            predictions and the page `crossval.html`.
        config: All settings; the test fold is replaced.
        reporter: Shows progress.
        at_once: Number of models that are trained at a time; None for `folds_at_once`.
        seeds: Number of models for each fold: with `train.seed` of the settings, and the seeds after it.
        command: Arguments of `earmark`, for run.json; None if it is called from Python.
        track: Address of a tracking server, as in `jobs.tracking.tracked`; None for none.

    Returns:
        Content of `crossval.json`.

    Raises:
        ConfigError: `train.freeze` is set.
        DatasetError: The dataset is incomplete.
        TrainError: The dataset cannot be trained on, or the folder of a fold has other settings.
        Interrupted: A signal stopped training; checkpoints have been written.
    """
    from train.evaluation.cross_validation import (
        describe_left_out,
        fold_configs,
        run_folder,
        seeds_of,
        summarize,
    )
    from train.evaluation.intervals import Groups, statistics_of
    from train.evaluation.prediction_parts import read_predictions
    from train.evaluation.svm_baseline import join_shards, predict_svm, score_svm
    from train.evaluation.svm_predictions import SvmPredictions
    from train.input.missing_classes import refuse_missing_classes
    from train.model.code_file import keep_code
    from train.report.cross_validation_page import write_cross_validation_page
    from train.run import Run
    from train.run_checks import refuse_other_runs

    refuse_freeze(config.train)
    dataset = open_dataset(features)
    refuse_foreign_run_folder(out)
    refuse_other_runs(Run(out), "fold")
    configs = fold_configs(config.train, dataset.layout)
    for fold_config in configs:  # check all folds before the first is trained
        refuse_missing_classes(dataset, fold_config, cross_validation=True)
    if left_out := describe_left_out(dataset):
        _log.info(left_out)
    chosen = seeds_of(config.train, seeds)
    numbers = dataset.layout.training  # those of the test folds of `configs`
    begun = any((run_folder(out, number) / "run.json").is_file() for number in numbers)
    model = keep_code(out, config.train, begun).model
    folds = [
        Fold(
            len(configs) * order + place,
            f"fold {number}" if seeds == 1 else f"fold {number} seed {seed}",
            run_folder(out, number, seed if order else None),
            config.model_copy(update={"train": fold.model_copy(update={"model": model, "seed": seed})}),
            command,
            track,
        )
        for order, seed in enumerate(chosen)
        for place, (number, fold) in enumerate(zip(numbers, configs, strict=True), 1)
    ]
    count = at_once or folds_at_once(len(folds), config.train)
    unit = "folds" if seeds == 1 else "models"
    with reporter.training_folds(len(folds), unit) as progress, noted_signals() as stop:
        metrics = run_folds(
            features, folds, [share_of_gpus(slot, count, config.train) for slot in range(count)], progress, stop
        )
    by_seed = {seed: metrics[order * len(configs) :][: len(configs)] for order, seed in enumerate(chosen)}
    tracks = join_shards(_describe_shards(dataset), dataset.classes)
    svm = [predict_svm(tracks, number) for number in numbers]
    SvmPredictions.of(tracks, svm, dataset).write(out)
    predictions = (part for fold in folds for part in read_predictions(Run(fold.folder)))
    intervals, _ = statistics_of(predictions, Groups(dataset), len(dataset.classes))
    summary = summarize(by_seed, [score_svm(tracks, *each) for each in svm], intervals)
    Run(out).write("crossval.json", summary.to_json())
    write_cross_validation_page(Run(out))
    return summary


def refuse_freeze(config: "TrainConfig") -> None:
    """Raise a ConfigError if layers are frozen: the models of a cross-validation or search have random weights."""
    if config.freeze:
        raise ConfigError(
            f"train.freeze = {', '.join(map(one_line, config.freeze))}: frozen layers keep the weights of another "
            "run, and each model begins with random ones here. Add: --set 'train.freeze=[]'"
        )


def folds_at_once(folds: int, config: "TrainConfig") -> int:
    """Return how many folds, or models of all folds and seeds, to train at a time.

    On a cluster as many as its free resources have room for; on this machine one for each GPU, or for each eight
    cores without GPUs; at least one, at most all.
    """
    if on_cluster():
        with ray_workers(None):
            free = free_resources()
        needed = {kind: count * config.worker_range.most for kind, count in config.worker_resources.items()}
        room = int(min(free.get(kind, 0) // count for kind, count in needed.items()))
    elif config.needs_workers:
        room = 1
    elif gpus := _gpus(config):
        room = len(gpus) // (config.replicas or 1)
    else:
        room = usable_cores() // _CORES_PER_FOLD
    return max(1, min(folds, room))


def _gpus(config: "TrainConfig") -> list[str]:
    """Return the GPUs of this machine that TensorFlow would use, as CUDA_VISIBLE_DEVICES names them."""
    if config.device == "cpu" or on_cluster():
        return []
    if (listed := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in listed.split(",") if name.strip() not in ("", "-1")]
    devices = os.listdir("/dev") if os.path.isdir("/dev") else []
    return sorted((name.removeprefix("nvidia") for name in devices if _is_gpu(name)), key=int)


def _is_gpu(device: str) -> bool:
    return device.startswith("nvidia") and device.removeprefix("nvidia").isdigit()


def share_of_gpus(slot: int, slots: int, config: "TrainConfig") -> dict[str, str]:
    """Return the environment variables that give one of `slots` processes its share of this machine's GPUs."""
    gpus = _gpus(config)
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus[slot::slots] or gpus[slot % len(gpus) :][:1])} if gpus else {}


def _describe_shards(dataset: Dataset) -> "list[ShardVectors]":
    """Return the summary vectors of all tracks; the nodes of a cluster, or threads, compute them."""
    from train.evaluation.svm_baseline import describe_shard, shards_to_describe

    calls = shards_to_describe(dataset)
    if not on_cluster():
        return list(in_threads(lambda call: describe_shard(*call), calls))
    with ray_workers(None):
        described = dict(run_all(describe_shard, calls))
    return [described[index] for index in range(len(calls))]
