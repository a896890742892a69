"""Compute features of audio files outside of any dataset, as input of a trained model."""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from featurize.audio.filters import Filters
from featurize.collection.listed_files import printable
from featurize.collection.listing import list_audio, size_of
from featurize.collection.location import locate
from featurize.dataset.feature_settings import FeatureSettings
from featurize.dataset.stored_model import describe_invalid
from featurize.dataset_build.reject_advice import ADVICE_FOR_ANSWERS, ADVICE_FOR_PREDICTION, with_advice
from featurize.dataset_build.worker import (
    fetching_ahead,
    refuse_lost_collection,
    rows_of_track,
    time_limit,
)
from featurize.errors import FeaturizeError, Reject
from featurize.execution.node_mounts import refuse_unseen
from featurize.execution.ray_tasks import RayTaskPool, on_cluster, ray_workers
from featurize.execution.retries import PlanAttempts, run_with_retries
from featurize.execution.subprocess_task import SubprocessTask
from featurize.planning.shard_plan import ShardPlan, Track
from featurize.storage import StoragePath, is_safe_name

_AT_ONCE = 16  # tracks per task; 6.7 MB of rows with default settings in Ray's object store
_FEW = 64  # files; one process finishes them in the time that Ray takes to start
_PROBED_FILES = 20  # files whose presence is checked on each node of a cluster


@dataclasses.dataclass(frozen=True)
class File:
    """An audio file to predict.

    Attributes:
        id: Path as the user would type it.
        root: Folder or file system root, shared by many files.
        path: Path of the file, as `locate` expects it.
        size: File size in bytes; -1 if the file is missing.
    """

    id: str
    root: StoragePath
    path: str
    size: int


@dataclasses.dataclass(frozen=True)
class Featurized:
    """Features of some tracks.

    Attributes:
        ids: Ids of the tracks with rows.
        mfcc: float32 [tracks, segments, features, frames], MFCC or log-mel features as in a shard of float32.
        starts: float64 [tracks, segments], start of each segment in seconds from the beginning of the track, or of
            the excerpt.
        rejects: Id, stage, reason and message of the other tracks.
        remarks: Id and remark of tracks with rows that are damaged or have wrong headers.
    """

    ids: list[str]
    mfcc: NDArray[np.float32]
    starts: NDArray[np.float64]
    rejects: list[tuple[str, str, str, str]]
    remarks: list[tuple[str, str]]


def list_files(targets: Sequence[str]) -> list[File]:
    """List the files that targets refer to, without repetitions.

    Args:
        targets: Files with any suffix, and folders, which stand for all audio files below them; paths or URIs. A
            target that does not exist counts as a file, which becomes a reject.

    Raises:
        FeaturizeError: A URI cannot be used, or a folder cannot be listed.
    """
    local_root = StoragePath.of("/")
    files: dict[tuple[str, str, str], File] = {}
    for target in targets:
        location = StoragePath.of(target)
        if location.is_folder():
            sizes = {audio.path: audio.size for audio in list_audio(location)}
            found = [(_typed_path(target, location, path), location, path, sizes[path]) for path in sorted(sizes)]
        else:
            typed = str(location) if location.scheme else target
            found = [(typed, location.parent, os.path.basename(location.path), size_of(location))]
        for typed, root, path, size in found:
            place = os.path.join(root.path, path)
            if root.local:
                root, path = local_root, place
            elif not is_safe_name(path):
                path = ""  # becomes a reject
            files.setdefault((root.scheme, place, root.query), File(printable(typed), root, path, size))
    return list(files.values())


def supported_settings(features: Mapping[str, Any]) -> FeatureSettings:
    """Return the feature settings of a model after checking that this version of Earmark supports them.

    Args:
        features: Content of `features` in `model.json`.

    Raises:
        FeaturizeError: A setting is unknown, missing or invalid.
    """
    try:
        return FeatureSettings.model_validate(features)
    except ValidationError as error:
        raise _unsupported(describe_invalid(error)) from error


def _unsupported(problem: str) -> FeaturizeError:
    return FeaturizeError(
        f"the model was trained on features that this version of Earmark cannot compute: {problem}. Use the "
        "version that trained it, or train again."
    )


@contextmanager
def featurizing(
    files: Sequence[File],
    settings: FeatureSettings,
    workers: int | None,
    track_timeout: float,
    on_wait: Callable[[], None],
) -> Iterator[Iterator[Featurized]]:
    """Featurize files with the settings of a model: a few files in one subprocess, many files on Ray workers.

    Args:
        files: Files from `list_files`.
        settings: Feature settings of the model.
        workers: Maximum number of worker processes, as in `featurize.dataset_build.driver.featurize`.
        track_timeout: Time limit per track, in seconds.
        on_wait: Called every few seconds while waiting for results.

    Yields:
        Iterator of results, in completion order. Work starts when the first result is requested.

    Raises:
        FeaturizeError: Ray cannot be used, or nodes cannot access the files. The iterator raises the errors of
            `run_with_retries`.
    """
    with SubprocessTask[Any]() as process:
        if len(files) <= _FEW:
            plans = _plans(files, settings, _FEW)
            yield run_with_retries(process, plans, track_timeout, featurize_files, None, on_wait=on_wait)
            return
        process.submit("filters", Filters.from_librosa, settings)
        with ray_workers(workers):
            if on_cluster():
                present = [file for file in files if file.size >= 0 and file.root.local]
                step = -(-len(present) // _PROBED_FILES) or 1
                refuse_unseen([locate(file.root, file.path) for file in present[::step]])
            tasks: RayTaskPool[PlanAttempts] = RayTaskPool(workers)
            plans = _plans(files, settings, _AT_ONCE)
            filters = tasks.share(process.result())
            yield run_with_retries(tasks, plans, track_timeout, featurize_files, filters, on_wait=on_wait)


def featurize_files(
    plan: ShardPlan,
    filters: Filters | None,
    track_timeout: float,
    excluded: Mapping[str, Reject],
    advice: Mapping[str, str] = ADVICE_FOR_PREDICTION,
) -> Featurized:
    """Return the features of the tracks of a plan.

    Args:
        plan: Tracks and settings.
        filters: Constants of the transform; None to build them.
        track_timeout: Time limit per track, in seconds; a longer computation ends this process.
        excluded: Rejects by id, for tracks that crash or hang the decoder and must not be opened.
        advice: What to type about a reject, by its reason.

    Raises:
        CollectionLostError: A remote file cannot be reached.
    """
    filters = filters or Filters.from_librosa(plan.settings)
    ids, mfcc, starts, rejects = [], [], [], []
    remarks: list[tuple[str, str]] = []
    with fetching_ahead(plan, [track for track in plan.tracks if track.id not in excluded]) as fetch:
        for track in plan.tracks:
            found: list[str] = []
            try:
                if track.id in excluded:
                    raise excluded[track.id]
                with time_limit(track_timeout):
                    rows, seconds = rows_of_track(plan, track, filters, found.append, fetch)
            except Reject as rejected:
                reject = with_advice(rejected, advice)
                rejects.append((track.id, reject.stage, reject.reason, reject.message))
            else:
                ids.append(track.id)
                mfcc.append(rows)
                starts.append(seconds)
                remarks += [(track.id, remark) for remark in found]
    shape = (len(ids), plan.settings.segments_per_track)
    features = np.array(mfcc, np.float32).reshape(*shape, *plan.settings.shape)
    return Featurized(
        ids,
        plan.settings.format.rounded(features),  # as the rows that the model was trained on
        np.array(starts, np.float64).reshape(shape),
        rejects,
        remarks,
    )


def featurize_batch(
    plan: ShardPlan, filters: Filters, track_timeout: float, excluded: Mapping[str, Reject]
) -> tuple[int, Featurized]:
    """Return the number of rejects of a plan, and its features: the result and the data of a `RayPipeline`.

    Raises:
        CollectionLostError: Files that existed when the run was planned can no longer be reached.
    """
    batch = featurize_files(plan, filters, track_timeout, excluded, ADVICE_FOR_ANSWERS)
    rejects = {track: Reject(stage, reason, message) for track, stage, reason, message in batch.rejects}
    for track in plan.tracks:
        if reject := rejects.get(track.id):
            refuse_lost_collection(plan, track, reject)
    return len(rejects), batch


def _plans(files: Sequence[File], settings: FeatureSettings, at_once: int) -> Iterator[ShardPlan]:
    for _, group in itertools.groupby(files, key=lambda file: file.root):
        same_root = list(group)
        for first in range(0, len(same_root), at_once):
            batch = same_root[first : first + at_once]
            tracks = [Track(file.id, file.path, -1, file.size) for file in batch]
            yield ShardPlan(batch[0].id, batch[0].root, tracks, settings)


def _typed_path(target: str, folder: StoragePath, path: str) -> str:
    """Return the path of a file in a folder, beginning with the folder as the user typed it."""
    if folder.scheme:
        return str(dataclasses.replace(folder, path=f"{folder.path}/{path}"))
    return os.path.join(target, path)
