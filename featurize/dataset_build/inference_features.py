"""Features of files that belong to no dataset: what a trained model is asked about."""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from featurize.audio.mfcc import Filters
from featurize.collection.catalog import printable
from featurize.collection.listing import list_audio, size_of
from featurize.config import FeaturizeConfig
from featurize.dataset.info import FeatureSettings, describe_invalid
from featurize.dataset.schema import MFCC_SHAPE
from featurize.dataset_build.worker import featurize_track, time_limit
from featurize.errors import FeaturizeError, Reject
from featurize.execution.node_mounts import refuse_unseen
from featurize.execution.ray_tasks import RayTaskPool, on_cluster, ray_workers
from featurize.execution.retries import PlanAttempts, run_with_retries
from featurize.execution.subprocess_task import SubprocessTask
from featurize.planning.shard_plan import ShardPlan, Track, feature_settings
from featurize.storage import StoragePath

_AT_ONCE = 16  # tracks: 6.7 MB of rows, on their way through Ray's store
_FEW = 64  # files; Ray starts in the time in which one process is done with them
_LOOKED_FOR = 20  # files, on each node of a cluster, before the work begins
# What is asked for by the one who featurizes; all other settings are constants of the code.
_CHOSEN = ("segments_per_track", "excerpt_seconds", "excerpt_position", "max_seconds")


@dataclasses.dataclass(frozen=True)
class File:
    """An audio file.

    Attributes:
        name: as the user would write it.
        root, path: where it is, `root / path`; many files have one root.
        size: in bytes, -1 where it is not there.
    """

    name: str
    root: StoragePath
    path: str
    size: int


@dataclasses.dataclass(frozen=True)
class Featurized:
    """Some tracks on their way to a model.

    Attributes:
        names: of the tracks that have rows.
        mfcc: float32 [tracks, segments, 40, 217], in dB after the DCT, as a shard has them.
        starts: float64 [tracks, segments], seconds from the beginning of what was read.
        rejects: the other tracks: name, stage, reason, message.
    """

    names: list[str]
    mfcc: NDArray[np.float32]
    starts: NDArray[np.float64]
    rejects: list[tuple[str, str, str, str]]


def list_files(targets: Sequence[str]) -> list[File]:
    """Find what is asked about.

    Args:
        targets: files of any name, and folders, whose audio files at any depth are taken; paths or URIs. What is
            not there is taken for a file: it will be a reject.

    Raises:
        FeaturizeError: a URI cannot be used, or a folder cannot be listed.
    """
    here = StoragePath.of("/")
    files: dict[str, File] = {}
    for target in targets:
        place = StoragePath.of(target)
        if place.is_folder():
            names = {audio.path: audio.size for audio in list_audio(place)}
            found = [(_below(target, place, path), place, path, size) for path, size in sorted(names.items())]
        else:
            found = [(target, place.parent, os.path.basename(place.path), size_of(place))]
        for name, root, path, size in found:
            file = root / path
            if file.local:
                root, path = here, file.path
            files.setdefault(str(file), File(printable(name), root, path, size))
    return list(files.values())


def supported_settings(features: Mapping[str, Any]) -> FeatureSettings:
    """Return the feature settings of a model, checked to be settings that this version of Earmark supports.

    Args:
        features: Content of `features` in `model.json`.

    Raises:
        FeaturizeError: a constant of the transform differs, or a setting is unknown or invalid.
    """
    ours = feature_settings(FeaturizeConfig()).model_dump()
    differ = [
        f"{key} {features.get(key)!r} there, {ours.get(key)!r} here"
        for key in sorted(ours.keys() | features.keys())
        if features.keys() != ours.keys() or (key not in _CHOSEN and features[key] != ours[key])
    ]
    if differ:
        raise _unsupported(", ".join(differ))
    try:
        return FeatureSettings.model_validate(features)
    except ValidationError as error:
        raise _unsupported(describe_invalid(error)) from error


def _unsupported(what: str) -> FeaturizeError:
    return FeaturizeError(
        f"the model was trained on features that this Earmark does not make: {what}. Use the version that trained "
        "it, or train again."
    )


@contextmanager
def featurizing(
    files: Sequence[File],
    settings: FeatureSettings,
    workers: int | None,
    track_timeout: float,
    on_wait: Callable[[], None],
) -> Iterator[Iterator[Featurized]]:
    """Featurize files by the settings of a model: a few in a process beside this one, more by Ray's workers.

    Args:
        files: from `list_files`.
        settings: from `feature_settings`.
        workers: as `featurize.dataset_build.driver.featurize` takes them.
        track_timeout: seconds that one track may take.
        on_wait: called as `run_with_retries` calls it.

    Yields:
        the results as they come, in any order; work starts when the first is asked for.

    Raises:
        FeaturizeError: Ray cannot be used, or nodes do not see the files; later, as `run_with_retries`.
    """
    with SubprocessTask[Any]() as apart:
        if len(files) <= _FEW:
            plans = _plans(files, settings, _FEW)
            yield run_with_retries(apart, plans, track_timeout, featurize_files, None, on_wait=on_wait)
            return
        apart.submit("filters", Filters.from_librosa)
        with ray_workers(workers):
            if on_cluster():
                there = [file for file in files if file.size >= 0]
                refuse_unseen([file.root / file.path for file in there[:: -(-len(there) // _LOOKED_FOR) or 1]])
            tasks: RayTaskPool[PlanAttempts] = RayTaskPool(workers)
            plans = _plans(files, settings, _AT_ONCE)
            filters = tasks.share(apart.result())
            yield run_with_retries(tasks, plans, track_timeout, featurize_files, filters, on_wait=on_wait)


def featurize_files(
    plan: ShardPlan, filters: Filters | None, track_timeout: float, excluded: Mapping[str, Reject]
) -> Featurized:
    """Featurize the tracks of a plan, as `featurize.dataset_build.worker.write_features` does, and return them.

    Raises:
        CollectionLostError: a file elsewhere cannot be reached.
    """
    filters = filters or Filters.from_librosa()
    names, mfcc, starts, rejects = [], [], [], []
    for track in plan.tracks:
        try:
            if track.id in excluded:
                raise excluded[track.id]
            with time_limit(track_timeout):
                rows, seconds = featurize_track(plan.root / track.path, plan.settings, filters)
        except Reject as reject:
            rejects.append((track.id, reject.stage, reject.reason, reject.message))
        else:
            names.append(track.id)
            mfcc.append(rows)
            starts.append(seconds)
    shape = (len(names), plan.settings.segments_per_track)
    return Featurized(
        names,
        np.array(mfcc, np.float32).reshape(*shape, *MFCC_SHAPE),
        np.array(starts, np.float64).reshape(shape),
        rejects,
    )


def _plans(files: Sequence[File], settings: FeatureSettings, at_once: int) -> Iterator[ShardPlan]:
    for _, group in itertools.groupby(files, key=lambda file: str(file.root)):
        alike = list(group)
        for first in range(0, len(alike), at_once):
            part = alike[first : first + at_once]
            tracks = [Track(file.name, file.path, -1, file.size) for file in part]
            yield ShardPlan(part[0].name, part[0].root, tracks, settings)


def _below(target: str, folder: StoragePath, path: str) -> str:
    """Name a file of a folder by the folder as it was given."""
    return str(folder / path) if folder.scheme else os.path.join(target, path)
