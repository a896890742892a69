"""The pipeline from a music collection to an evaluated model.

`run` makes three steps, each of which resumes after an interruption and skips finished work:

    make_features     music -> OUT/features, a dataset of MFCC segments in Parquet shards (Ray)
    make_model        dataset -> OUT/model.keras, with checkpoints on the way (TensorFlow)
    evaluate_model    model and dataset -> OUT/metrics.json, OUT/predictions.parquet, OUT/report.html

`jobs.cross_validation` repeats the second and third step for each fold. Each step imports Ray or TensorFlow only
if it needs them: training on one machine does not load Ray, and the process that featurizes does not load
TensorFlow.
"""

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import ValidationError

from featurize.dataset.dataset import open_dataset
from featurize.dataset.output_folder import refuse_foreign_run_folder
from featurize.execution.folder_lock import only_run_in
from featurize.execution.ray_tasks import on_cluster, ray_workers
from featurize.planning.shard_plan import feature_settings
from featurize.storage import StoragePath
from jobs.config import JobConfig, featurized_with, to_yaml
from jobs.errors import ConfigError, Interrupted
from jobs.moved_dataset import open_dataset_of
from jobs.provenance import describe_start
from jobs.reporters import NO_OBSERVER, FeaturizeReporter, RunObserver, TrainingReporter
from jobs.terminal.console import ConsoleReporter
from jobs.terminal.native_output import quiet_tensorflow
from jobs.terminal.signals import noted_signals
from train.segment_size import refuse_unfit

if TYPE_CHECKING:
    from featurize.dataset_build.finalize import Summary
    from train.config import TrainConfig
    from train.records import EpochRecord
    from train.score_records import Metrics


_log = logging.getLogger(__name__)


def run(
    music: str,
    out: StoragePath,
    config: JobConfig,
    workers: int | None,
    reporter: ConsoleReporter,
    retry_rejects: bool = False,
    allowed_buckets: Sequence[str] = (),
    layout: str | None = None,
    columns: str | None = None,
    command: Sequence[str] | None = None,
    observer: RunObserver = NO_OBSERVER,
) -> "Metrics":
    """Featurize a collection, train a model, and evaluate it.

    Args:
        music: Folder, table or URI of the collection.
        out: Output folder; the dataset is in its subfolder `features`.
        config: All settings.
        workers: Number of processes that featurize at a time; None for one per core.
        reporter: Shows progress.
        retry_rejects: Whether to read tracks again that an earlier run rejected.
        allowed_buckets: Names of buckets, besides its own, that a table may name files in.
        layout: Layout of the collection, as in `--layout`; None to recognize it.
        columns: Columns of a table by role, as in `--columns`.
        command: Arguments of `earmark`, for run.json; None if it is called from Python.
        observer: Told when the run has begun, and of each epoch.

    Returns:
        Metrics on the test set.
    """
    from train.model.code_file import read_code
    from train.run import Run
    from train.run_checks import refuse_runs_inside

    features = out / "features"
    refuse_foreign_run_folder(out)
    # Before hours of featurizing.
    refuse_runs_inside(Run(out))
    refuse_unfit(feature_settings(config.featurize).shape, config.train)
    if not Run(out).info():
        read_code(config.train.model)  # refuses a file that cannot be used
    make_features(music, features, config, workers, reporter, retry_rejects, allowed_buckets, layout, columns)
    make_model(features, out, config, reporter, command=command, observer=observer)
    return evaluate_model(out, None, trust_code=config.train.is_users_model)


def make_features(
    music: str,
    folder: StoragePath,
    config: JobConfig,
    workers: int | None,
    reporter: FeaturizeReporter,
    retry_rejects: bool = False,
    allowed_buckets: Sequence[str] = (),
    layout: str | None = None,
    columns: str | None = None,
) -> "Summary":
    """Convert a collection to a dataset; shards that exist are kept.

    Args:
        music: Folder, table or URI of the collection.
        folder: Dataset folder.
        config: All settings; they are also written to `config.yaml` in the dataset folder.
        workers: Number of processes that featurize at a time; None for one per core.
        reporter: Shows progress and the table of rejects.
        retry_rejects: Whether to read tracks again that an earlier run rejected.
        allowed_buckets: Names of buckets, besides its own, that a table may name files in.
        layout: Layout of the collection, as in `--layout`; None to recognize it.
        columns: Columns of a table by role, as in `--columns`.

    Returns:
        Counts of tracks, segments, rejects and duplicates.

    Raises:
        FeaturizeError: The collection cannot be used, or too many tracks were rejected.
    """
    from featurize.dataset_build.driver import featurize, refuse_too_many_rejects

    started = time.monotonic()
    with reporter.featurizing() as on_progress:
        summary = featurize(
            music,
            folder,
            config.featurize,
            workers,
            retry_rejects,
            on_progress,
            allowed_buckets=allowed_buckets,
            layout=layout,
            columns=columns,
        )
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
        f"{summary.rejected} reject{'' if summary.rejected == 1 else 's'}, {time.monotonic() - started:.1f} s. "
        f"{folder}"
    )
    return summary


def make_model(
    features: StoragePath,
    out: StoragePath,
    config: JobConfig,
    reporter: TrainingReporter,
    start: StoragePath | None = None,
    command: Sequence[str] | None = None,
    observer: RunObserver = NO_OBSERVER,
) -> None:
    """Train a model on a dataset, from the latest checkpoint if there is one; a finished model is kept.

    Args:
        features: Dataset folder.
        out: Run folder.
        config: All settings.
        reporter: Shows progress.
        start: Folder of the run whose weights a new run begins with; None for random weights.
        command: Arguments of `earmark`, for run.json; None if it is called from Python.
        observer: Told when the run has begun, and of each epoch.

    Raises:
        DatasetError: The dataset is incomplete.
        TrainError: The dataset cannot be trained on, or the run folder has other settings or the runs of a
            cross-validation or a search.
        Interrupted: A signal stopped training; a checkpoint has been written.
    """
    dataset = open_dataset(features)
    refuse_foreign_run_folder(out)
    if (features_config := features / "config.yaml").is_file():
        # The run records the settings that the features were made with, not those that `config` has now.
        config = config.model_copy(update={"featurize": featurized_with(features_config)})
    with quiet_tensorflow():
        from train.callbacks import Callbacks
        from train.errors import Stopped
        from train.fit.begin import begin, is_complete
        from train.fit.initial_weights import settle_initial
        from train.fit.trainer import learn
        from train.folds import resolve_folds
        from train.model.code_file import settle_code
        from train.run import Run
        from train.run_checks import refuse_runs_inside

    started, run = time.monotonic(), Run(out)
    refuse_runs_inside(run)
    settled, code = settle_code(run, resolve_folds(config.train, dataset.layout))
    config = config.model_copy(update={"train": settled})
    initial = settle_initial(run, Run(start) if start else None, settled)
    try:
        with only_run_in(out), reporter.training() as (on_step, on_epoch), noted_signals() as stop:
            out.remove_leftovers()

            def end_epoch(record: "EpochRecord", epochs: int) -> None:
                on_epoch(record, epochs)
                observer.epoch_ended()

            callbacks = Callbacks(on_step, end_epoch, stop)
            record = describe_start(command)
            trains_with = None
            if (on_cluster() or settled.needs_workers) and not is_complete(run, settled):
                trains_with = _with_device(settled)  # before anything is recorded
            remains = begin(dataset, run, config.train, to_yaml(config), code, initial, record)
            observer.began()
            if not remains:
                pass  # the model is finished
            elif trains_with:
                with ray_workers(None):
                    from train.cluster.ray_train import learn_on_cluster

                    learn_on_cluster(features, run, trains_with, callbacks, on_cluster())
            else:
                learn(dataset, run, config.train, callbacks)
    except Stopped as stopped:
        raise Interrupted(stopped.signal, f"a checkpoint holds all {stopped.step} steps") from None
    epochs = f"{config.train.epochs} epoch{'' if config.train.epochs == 1 else 's'}"
    _log.info(f"Trained: {epochs}, {time.monotonic() - started:.1f} s. {out}")


def evaluate_model(
    out: StoragePath, features: StoragePath | None, again: bool = False, trust_code: bool = False
) -> "Metrics":
    """Evaluate a trained model on its test fold, and write the metrics, the predictions and the report.

    Args:
        out: Run folder.
        features: Dataset folder; None for the folder recorded in the run.
        again: Whether to evaluate even if the metrics of this model exist.
        trust_code: Whether code in the run may be executed: its user has named the function that builds the model,
            or asks for it.

    Returns:
        Metrics on the test fold.

    Raises:
        DatasetError: The dataset is incomplete.
        TrainError: The run has no model, or was trained on another dataset.
    """
    from train.run import Run

    finished = Run(out)
    dataset = open_dataset_of(finished, features)
    with quiet_tensorflow():
        from train.evaluation.evaluate import evaluate_run, is_evaluated
        from train.report.run_page import write_run_page

    if not again and finished.report.is_file() and is_evaluated(finished) and (metrics := finished.metrics()):
        return metrics
    if on_cluster():
        with ray_workers(None):
            from train.cluster.ray_train import evaluate_on_cluster

            metrics = evaluate_on_cluster(dataset.folder, finished, _with_device(finished.config()), trust_code)
    else:
        metrics = evaluate_run(finished, dataset, trust_code)
        write_run_page(finished, dataset)
    _log.info(f"Evaluated: {metrics.test_set}. {out}")
    return metrics


def _with_device(config: "TrainConfig") -> "TrainConfig":
    """Resolve `train.device=auto` for Ray's workers: GPUs on a cluster, or if this machine has any.

    Raises:
        ConfigError: The settings cannot be used on CPUs.
    """
    from train.config import TrainConfig
    from train.model.strategy import on_gpus

    if config.device != "auto":
        return config
    device = "gpu" if on_cluster() or on_gpus() else "cpu"
    try:
        return TrainConfig.model_validate({**config.model_dump(), "device": device})
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"this machine has no GPUs, so train.device = auto is the CPU: {problem}.") from error
