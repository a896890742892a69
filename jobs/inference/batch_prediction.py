"""Predict a whole collection, or a dataset, into a folder of answers: by shards, resumed after an interruption.

Ray tasks decode and featurize. Their features stay in Ray's object store, where a process with the model reads
them (`jobs.inference.predictor`); this process holds neither features nor TensorFlow.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyarrow.compute as pc

from featurize.collection.catalog import build_catalog
from featurize.collection.layouts.source import Source
from featurize.collection.manifest import TableRequest, TrackRows
from featurize.collection.path_table import read_paths
from featurize.collection.unlabeled import Unlabeled, list_unlabeled, with_labels_carried
from featurize.config import FeaturizeConfig
from featurize.dataset.dataset import Dataset, open_dataset
from featurize.dataset.feature_settings import FeatureSettings
from featurize.dataset.output_folder import refuse_foreign_answers_folder
from featurize.dataset_build.driver import FeaturizeProgress, explain_os_errors
from featurize.dataset_build.finalize import library_versions
from featurize.dataset_build.inference_features import supported_settings
from featurize.errors import FeaturizeError
from featurize.execution.folder_lock import only_run_in
from featurize.execution.node_mounts import refuse_unseen
from featurize.execution.ray_metrics import with_ray_metrics
from featurize.execution.ray_tasks import on_cluster, ray_workers
from featurize.execution.table_reading import read_table_apart
from featurize.storage import StoragePath
from jobs.inference.answer_plan import plan_dataset, plan_music
from jobs.inference.kept_features import KeptFeatures
from jobs.inference.predictor import model_digest
from jobs.inference.shard_jobs import DatasetJob, MusicJob, model_actors, object_store_bytes
from train.answers.external import refuse_other_classes
from train.answers.folder import (
    FORMAT_VERSION,
    INFO,
    Answers,
    ShardAnswers,
    answers_of,
    finish_answers,
    list_answers,
    read_answer_footer,
    read_answers_info,
    read_manifest,
    save_plan,
)
from train.answers.shard import carried_names
from train.errors import TrainError
from train.run import Run

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class PredictionRequest:
    """What the command line says about a prediction into a folder.

    Attributes:
        workers: Maximum number of processes that featurize; None for one per core.
        by_segment: Whether each segment is a row; else each track is one.
        retry_rejects: Whether rejected tracks of the existing answers are tried again.
        limits: From `prediction_limits`.
        allowed_buckets: Names of buckets, besides its own, that a table may name files in.
        columns: Columns of a table by role, if they are not found by their names; `path` only, unless `labeled`.
        labeled: Whether the music is a collection with labels, which are carried along in the column `label`.
        layout: Layout of a labeled collection; None to recognize it.
        keep_features: Whether the features are written as a dataset, in the subfolder `features` of the answers.
        trust_code: Whether code in the run may be executed, as in `train.evaluation.inference.load_model`.
    """

    workers: int | None = None
    by_segment: bool = False
    retry_rejects: bool = False
    limits: Mapping[str, float] = dataclasses.field(default_factory=dict)
    allowed_buckets: Sequence[str] = ()
    columns: str | None = None
    labeled: bool = False
    layout: str | None = None
    keep_features: bool = False
    trust_code: bool = False


def predict_into(
    run: StoragePath,
    music: str,
    folder: StoragePath,
    request: PredictionRequest,
    on_progress: Callable[[FeaturizeProgress], None] = lambda progress: None,
) -> Answers:
    """Predict a collection or a dataset, or the missing shards of its answers.

    Args:
        run: Folder of a finished run.
        music: Folder of audio files, table of paths, or folder of a dataset; a path or a URI.
        folder: Folder of the answers.
        request: Options.
        on_progress: As in `featurize.dataset_build.driver.featurize`.

    Raises:
        TrainError: The run has no model, or the answers cannot be completed.
        FeaturizeError: The collection or the folder cannot be used, the features are not those of the model, or
            workers failed.
    """
    started, trained = time.monotonic(), Run(run)
    info = trained.trained()
    try:
        settings = supported_settings(info.features)
    except FeaturizeError as error:
        raise FeaturizeError(f"{run / 'model.json'}: {error}") from error
    limits = dict(request.limits)
    timeout = limits.pop("track_timeout", FeaturizeConfig().track_timeout)
    tracks_per_shard = limits.pop("tracks_per_shard", None)
    about = {"format": FORMAT_VERSION, "model": model_digest(trained), "by_segment": request.by_segment}
    with explain_os_errors(folder):
        refuse_foreign_answers_folder(folder)
    place = StoragePath.of(music)
    dataset = _dataset(place, settings, run)
    job: MusicJob | DatasetJob
    kept: KeptFeatures | None = None
    if dataset:
        refuse_table_options(request, place)
        job = DatasetJob(dataset, plan_dataset(dataset, about))
        columns, labels = ["label", "fold"], dataset.classes
    else:
        settings = settings.model_copy(update=limits)
        found = _list(music, request)
        plan = plan_music(found, settings, about, int(tracks_per_shard) if tracks_per_shard else None)
        kept = KeptFeatures(folder / "features", plan) if request.keep_features else None
        job, columns = MusicJob(plan, timeout, kept), found.carried.column_names
        labels = pc.unique(found.carried["label"]).to_pylist() if request.labeled else []
    if request.labeled:
        refuse_other_classes(labels, info.classes)
    about = {
        "model": about["model"],
        "classes": info.classes,
        "settings": settings,
        "by_segment": request.by_segment,
        "columns": carried_names(columns),
        "versions": _versions(),
    }
    with only_run_in(folder), explain_os_errors(folder), ExitStack() as stack:
        folder.remove_leftovers()
        planned, finished = job.tracks, list_answers(folder)
        retried = _with_rejects(folder, planned.keys() & finished.keys()) if request.retry_rejects else set()
        unkept = kept.missing() if kept else set()
        missing = [i for i, name in enumerate(planned) if name not in finished or name in retried or i in unkept]
        if (
            not missing
            and (not kept or kept.complete)
            and (answers := _already_complete(folder, planned, finished))
        ):
            return answers
        if stale := finished.keys() - planned.keys():
            _log.warning("%d shards of other tracks, settings or another model are replaced.", len(stale))
        (folder / INFO).remove()
        save_plan(folder, list(planned), list(planned.values()))
        if kept:
            kept.begin()
        if on_cluster():
            on_progress = with_ray_metrics(on_progress, str(folder))
        counts = list(planned.values())
        total = sum(counts)
        done = total - sum(counts[position] for position in missing)
        on_progress(FeaturizeProgress(done, total))
        made: dict[str, ShardAnswers] = {}
        if missing:
            stack.enter_context(ray_workers(request.workers, object_store_bytes(request.workers)))
            if on_cluster():
                refuse_unseen([place, run], folder)
            actors = model_actors((run, about["model"], folder, request.by_segment), request.trust_code)
            tracks_now = rejected_now = 0
            for result in job.results(missing, actors, request.workers):
                if result is not None:
                    made[result.name] = result
                    tracks_now += planned[result.name]
                    rejected_now += len(result.footer.rejects)
                nodes = job.nodes
                on_progress(FeaturizeProgress(done + tracks_now, total, tracks_now, rejected_now, nodes))
        if kept:
            kept.finish()
        answers = finish_answers(folder, planned, made, about)
    _log.info(
        f"Predicted {answers.tracks - answers.rejected} of {answers.tracks} tracks, "
        f"{time.monotonic() - started:.1f} s. {folder}"
    )
    return answers


def _list(music: str, request: PredictionRequest) -> Unlabeled:
    """List a collection, with the columns to carry along."""
    buckets, columns = request.allowed_buckets, request.columns
    if not request.labeled:
        return list_unlabeled(music, buckets, _read_paths_apart, columns)
    catalog = build_catalog(music, buckets, read_table_apart, request.layout, columns, to_train=False)
    return with_labels_carried(catalog)


def _dataset(place: StoragePath, settings: FeatureSettings, run: StoragePath) -> Dataset | None:
    """Return the dataset in a folder, None if it holds none.

    Raises:
        DatasetError: It is not complete.
        FeaturizeError: Its features are not those of the model.
    """
    if not any((place / name).is_file() for name in ("dataset.json", "tracks.parquet")):
        return None
    dataset = open_dataset(place)
    # Not `model_dump`, which has no settings with their default value.
    ours, theirs = dict(settings), dict(dataset.info.settings)
    for each in (ours, theirs):
        del each["max_seconds"]  # it only rejects tracks, and may be set in a prediction
    if ours != theirs:
        differences = ", ".join(
            f"{key} {theirs[key]!r} in the dataset, {ours[key]!r} in the model"
            for key in sorted(ours)
            if ours[key] != theirs[key]
        )
        raise FeaturizeError(
            f"the features of {place} are not those that {run} was trained on: {differences}. Give the music "
            "instead of the dataset, which is then featurized as for the model."
        )
    return dataset


def refuse_table_options(request: PredictionRequest, place: StoragePath) -> None:
    """Raise a FeaturizeError if options are given that are about music, for a dataset."""
    given = {
        "--columns": request.columns,
        "--layout": request.layout,
        "--keep-features": request.keep_features,
        "--allow-bucket": request.allowed_buckets,
        "--set": request.limits,
        "--retry-rejects": request.retry_rejects,
    }
    if names := [name for name, value in given.items() if value]:
        raise FeaturizeError(
            f"{', '.join(names)}: {place} is a dataset, whose features are there already. Leave the option out, "
            "or give the music."
        )


def _read_paths_apart(source: Source, request: TableRequest) -> TrackRows:
    return read_table_apart(source, request, read_paths)


def _with_rejects(folder: StoragePath, names: Any) -> set[str]:
    """Return the names of finished shards that have rejects or cannot be read."""
    footers = {name: read_answer_footer(folder, name) for name in names}
    return {name for name, footer in footers.items() if footer is None or footer.rejects}


def _already_complete(
    folder: StoragePath, planned: Mapping[str, int], finished: Mapping[str, int]
) -> Answers | None:
    """Return the answers of the folder if they are complete and those of the plan, else None."""
    try:
        info = read_answers_info(folder)
        manifest = read_manifest(folder) if info else None
    except TrainError:
        return None
    if info is None or manifest is None:
        return None
    listed = dict(zip(manifest["name"].to_pylist(), manifest["bytes"].to_pylist(), strict=True))
    return answers_of(info) if listed == dict(finished) and listed.keys() == planned.keys() else None


def _versions() -> dict[str, str]:
    found = library_versions()
    for package in ("tensorflow", "keras"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # on the head of a cluster; the nodes with the model have it
            continue
    return found
