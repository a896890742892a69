"""From music to a judged model: featurize, train, judge; each step goes on where it was interrupted.

TensorFlow and Ray are imported by the step that needs them: a run that only trains never loads Ray, and the
process that featurizes loads no TensorFlow.
"""

import gc
import logging
import time
from typing import TYPE_CHECKING

from featurize.dataset.dataset import open_dataset
from featurize.execution.folder_lock import only_run_in
from featurize.execution.ray_tasks import on_cluster, ray_workers
from featurize.storage import StoragePath
from jobs.config import JobConfig, featurized_with, to_yaml
from jobs.errors import Interrupted
from jobs.terminal.console import ConsoleReporter
from jobs.terminal.native_output import quiet_tensorflow
from jobs.terminal.signals import noted_signals

if TYPE_CHECKING:
    from featurize.dataset_build.finalize import Summary
    from train.config import TrainConfig
    from train.records import CrossValidationSummary, Metrics


_log = logging.getLogger(__name__)


def run(
    music: str,
    out: StoragePath,
    config: JobConfig,
    workers: int | None,
    reporter: ConsoleReporter,
    retry_rejects: bool = False,
) -> "Metrics":
    """Do everything from a collection to a report below one folder, and return the metrics."""
    features = out / "features"
    make_features(music, features, config, workers, reporter, retry_rejects)
    make_model(features, out, config, reporter)
    return evaluate_model(out, None, reporter)


def make_features(
    music: str,
    folder: StoragePath,
    config: JobConfig,
    workers: int | None,
    reporter: ConsoleReporter,
    retry_rejects: bool = False,
) -> "Summary":
    """Make the dataset of a collection, or what is missing of it; rejected tracks are tried again or not.

    Raises:
        FeaturizeError: the collection cannot be used, or too much of it was rejected.
    """
    from featurize.dataset_build.driver import featurize, refuse_too_many_rejects

    started = time.monotonic()
    with reporter.featurizing() as on_progress:
        summary = featurize(music, folder, config.featurize, workers, retry_rejects, on_progress)
    (folder / "config.yaml").write(to_yaml(config).encode())
    reporter.rejects(summary)
    if summary.duplicates:
        _log.info(
            f"{summary.duplicates} tracks are exact duplicates of another one; {folder / 'duplicates.parquet'} "
            "lists them. Those with a copy in another fold are not evaluated."
        )
    refuse_too_many_rejects(summary, config.featurize, folder)
    _log.info(
        f"Featurized: {summary.tracks - summary.rejected} tracks, {summary.segments} segments, "
        f"{summary.rejected} rejects, {time.monotonic() - started:.1f} s. {folder}"
    )
    return summary


def make_model(features: StoragePath, out: StoragePath, config: JobConfig, reporter: ConsoleReporter) -> None:
    """Train a model on a dataset, or go on with it; a model that is there is left as it is.

    Raises:
        DatasetError: the features are not a whole dataset.
        TrainError: they cannot be learned from, or the folder belongs to other settings.
    """
    dataset = open_dataset(features)
    if (made_with := features / "config.yaml").is_file():
        # What the run records is what the features were made with, not what they would be made with now.
        config = config.model_copy(update={"featurize": featurized_with(made_with)})
    with quiet_tensorflow():
        from train.callbacks import Callbacks
        from train.errors import Stopped
        from train.fit.trainer import begin, learn
        from train.run import Run

    started, run = time.monotonic(), Run(out)
    try:
        with only_run_in(out), reporter.training() as (on_step, on_epoch), noted_signals() as stop:
            callbacks = Callbacks(on_step, on_epoch, stop)
            if not begin(dataset, run, config.train, to_yaml(config)):
                pass
            elif on_cluster() or config.train.workers > 1:
                with ray_workers(None):
                    from train.cluster.ray_train import learn_on_cluster

                    learn_on_cluster(features, run, _with_device(config.train), callbacks)
            else:
                learn(dataset, run, config.train, callbacks)
    except Stopped as stopped:
        raise Interrupted(stopped.signal, f"a checkpoint holds all {stopped.step} steps") from None
    _log.info(f"Trained: {config.train.epochs} epochs, {time.monotonic() - started:.1f} s. {out}")


def evaluate_model(
    out: StoragePath, features: StoragePath | None, reporter: ConsoleReporter, again: bool = False
) -> "Metrics":
    """Judge a trained model and write its metrics and report, unless they are there already.

    Args:
        out: the run's folder.
        features: where the dataset is now; None for where it was when the model was trained.
        reporter: Prints progress and remarks.
        again: judge it even so.

    Raises:
        DatasetError: the features are not a whole dataset.
        TrainError: there is no model, or it was trained on another dataset.
    """
    with quiet_tensorflow():
        from train.evaluation.evaluate import evaluate_run, is_evaluated
        from train.report.run_page import write_run_page
        from train.run import Run

    finished = Run(out)
    dataset = open_dataset(features or finished.features())
    if not again and is_evaluated(finished) and (found := finished.metrics()):
        if not finished.report.is_file():
            write_run_page(finished, dataset)
        return found
    if on_cluster():
        with ray_workers(None):
            from train.cluster.ray_train import evaluate_on_cluster

            metrics = evaluate_on_cluster(dataset.folder, finished, _with_device(finished.config()))
    else:
        metrics = evaluate_run(finished, dataset)
        write_run_page(finished, dataset)
    _log.info(f"Evaluated: fold {metrics.test_fold}. {out}")
    return metrics


def _with_device(config: "TrainConfig") -> "TrainConfig":
    """Settle what Ray's workers train on: a cluster has GPUs, unless it is said that it has none."""
    from train.model.strategy import on_gpus

    if config.device != "auto":
        return config
    return config.model_copy(update={"device": "gpu" if on_cluster() or on_gpus() else "cpu"})


def cross_validate(
    features: StoragePath, out: StoragePath, config: JobConfig, reporter: ConsoleReporter
) -> "CrossValidationSummary":
    """Train and judge one model for each fold below one folder, or what is missing of it, and an SVM beside them.

    Returns:
        the content of `crossval.json`.

    Raises:
        DatasetError: the features are not a whole dataset.
        TrainError: a fold cannot be learned from, or a fold's folder belongs to other settings.
    """
    dataset = open_dataset(features)
    with quiet_tensorflow():
        from train.evaluation.cross_validation import fold_configs, summarize
        from train.evaluation.svm_baseline import describe_tracks, evaluate_svm
        from train.input.class_counts import refuse_missing_classes
        from train.run import Run

    configs = fold_configs(config.train)
    for fold_config in configs:  # all of them before the first is trained
        refuse_missing_classes(dataset, fold_config)
    metrics = []
    for fold_config in configs:
        _log.info(f"Fold {fold_config.test_fold + 1} of {len(configs)}")
        run = out / f"fold={fold_config.test_fold}"
        make_model(features, run, config.model_copy(update={"train": fold_config}), reporter)
        metrics.append(evaluate_model(run, features, reporter))
        gc.collect()  # models and their graphs refer to one another, and with them to windows of rows
    tracks = describe_tracks(dataset)
    summary = summarize(metrics, [evaluate_svm(tracks, fold_config.test_fold) for fold_config in configs])
    Run(out).write("crossval.json", summary.to_json())
    return summary


def conclusion(out: StoragePath, metrics: "Metrics") -> str:
    """Say in a few lines how good the model is and where everything lies."""
    tracks, segments = metrics.tracks, metrics.segments
    return "\n".join(
        [
            f"tracks    accuracy {tracks.accuracy:.3f}  macro-F1 {tracks.macro_f1:.3f}  "
            f"({tracks.count} held-out tracks)",
            f"segments  accuracy {segments.accuracy:.3f}  macro-F1 {segments.macro_f1:.3f}  "
            f"({segments.count} held-out segments)",
            f"report    {out / 'report.html'}",
            f"model     {out / 'model.keras'}",
            f"curves    {how_to_see(out / 'tensorboard')}",
        ]
    )


def how_to_see(curves: StoragePath) -> str:
    """Say what to type to see TensorBoard's curves."""
    return f"tensorboard --logdir {curves}" if curves.local else f"{curves} (copy it here for TensorBoard)"
