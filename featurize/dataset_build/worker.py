"""Turn the audio files of one shard plan into a Parquet file. Independent of Ray."""

import contextlib
import dataclasses
import faulthandler
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from featurize.audio.fetch_ahead import FetchAhead
from featurize.audio.filters import Filters
from featurize.audio.load import OnRemark, load
from featurize.audio.mfcc import segment_features, segment_starts
from featurize.collection.location import is_outside
from featurize.dataset.feature_settings import FeatureSettings
from featurize.dataset.shard_table import ShardRecord
from featurize.dataset_build.previous_rows import read_previous
from featurize.dataset_build.reject_advice import ADVICE_FOR_DATASETS, with_advice
from featurize.dataset_build.shard_writer import ShardWriter
from featurize.errors import CollectionLostError, Reject
from featurize.planning.shard_plan import ShardPlan, Track
from featurize.storage import StoragePath, describe

TrackSegments = tuple[NDArray[np.float32], NDArray[np.float64]]


@dataclasses.dataclass(frozen=True)
class ShardResult:
    """Result of writing a shard.

    Attributes:
        name: Name of the shard.
        tracks: Number of its tracks, rejects included.
        record: What the last step needs to know about it, so that it need not read it.
        damaged: Ids of the tracks that were computed again, because an earlier shard has damaged rows of them.
    """

    name: str
    tracks: int
    record: ShardRecord
    damaged: Sequence[str] = ()

    @property
    def rejects(self) -> int:
        """Number of rejected tracks."""
        return len(self.record.rejects)


def write_features(
    plan: ShardPlan,
    folder: StoragePath,
    filters: Filters,
    track_timeout: float | None = None,
    excluded: Mapping[str, Reject] | None = None,
) -> ShardResult:
    """Featurize the tracks of a plan and write their shard.

    Args:
        plan: Plan of the shard.
        folder: Dataset folder.
        filters: Constants of the transform, from `Filters.from_librosa`.
        track_timeout: Time limit per track, in seconds; a longer computation ends this process. None for no limit.
        excluded: Rejects by id, for tracks that crash or hang the decoder and must not be opened.

    Raises:
        CollectionLostError: Files that existed when the run was planned can no longer be reached.
        OSError: The shard cannot be written.
    """
    if folder.local and not folder.is_folder():
        # Writing would create the folder on the wrong disk.
        raise CollectionLostError(
            f"{folder} does not exist on {socket.gethostname()}. Mount it on every node, or use a URI."
        )
    previous = read_previous(plan, folder, keep_unsized=False)
    had_rows, had_rejects = previous.rows, previous.rejects
    writer = ShardWriter(plan)
    known = had_rejects.keys() | (excluded or {}).keys()
    computed = [track for track in plan.tracks if (track.id, track.size) not in had_rows and track.id not in known]
    with fetching_ahead(plan, computed) as fetch:
        for track in plan.tracks:
            if copied := had_rows.get((track.id, track.size)):
                writer.add(track, copied.features, copied.starts)
                for message in copied.remarks:
                    writer.remark(track, message)
                continue
            if rejected := had_rejects.get(track.id):
                refuse_lost_collection(plan, track, rejected)
                writer.reject(track, rejected)
                continue
            remarks: list[str] = []
            try:
                if reject := (excluded or {}).get(track.id):
                    raise reject
                with time_limit(track_timeout):
                    rows = rows_of_track(plan, track, filters, remarks.append, fetch)
            except Reject as reject:
                refuse_lost_collection(plan, track, reject)
                writer.reject(track, with_advice(reject, ADVICE_FOR_DATASETS))
            else:
                writer.add(track, *rows)
                for message in remarks:
                    writer.remark(track, message)
    return ShardResult(plan.name, len(plan.tracks), writer.finish(folder), previous.damaged)


def fetching_ahead(plan: ShardPlan, tracks: Sequence[Track]) -> FetchAhead:
    """Return a context that reads the files of some tracks of a plan ahead of time, if they are in a bucket."""
    files = []
    for track in tracks:
        with contextlib.suppress(Reject, CollectionLostError):  # raised again when it is the track's turn
            files.append((plan.locate(track), track.size))
    return FetchAhead(files, plan.settings)


def featurize_track(
    path: StoragePath,
    settings: FeatureSettings,
    filters: Filters,
    on_remark: OnRemark = lambda remark: None,
    fetch: FetchAhead | None = None,
) -> TrackSegments:
    """Compute the features of one audio file.

    Args:
        path: Audio file.
        settings: Feature settings.
        filters: Constants of the transform, from `Filters.from_librosa`.
        on_remark: As in `featurize.audio.load.load`.
        fetch: Reads remote files ahead of time, this one among them.

    Returns:
        Features, float32 [segments, features, frames]; and the start of each segment, float64 [segments], in
        seconds from the beginning of the track, or of the excerpt.

    Raises:
        Reject: The file cannot be used.
        CollectionLostError: A remote file cannot be reached.
    """
    fetched = fetch.take(path) if fetch else None
    samples = load(path, settings, on_remark, fetched.result if fetched else None)
    starts = segment_starts(len(samples), settings)
    return segment_features(samples, starts, filters, settings), starts / settings.sample_rate


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """End this process if the body takes longer than some seconds, even in native code. None for no limit."""
    if seconds is None:
        yield
        return
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def rows_of_track(
    plan: ShardPlan, track: Track, filters: Filters, on_remark: OnRemark, fetch: FetchAhead
) -> TrackSegments:
    """Compute the features of a track.

    Raises:
        Reject: The file cannot be used. A file outside the collection's bucket that was not there when the
            collection was listed is no sign that the collection is lost.
        CollectionLostError: A remote file that was there can no longer be reached.
    """
    try:
        return featurize_track(plan.locate(track), plan.settings, filters, on_remark, fetch)
    except CollectionLostError as error:
        if track.size >= 0 or not is_outside(plan.root, track.path):
            raise
        raise Reject("open", "unreachable", str(error)) from error


def refuse_lost_collection(plan: ShardPlan, track: Track, reject: Reject) -> None:
    """Raise CollectionLostError if a file is missing because its folder is: its disk may be unmounted."""
    if reject.stage != "open" or track.size < 0 or not plan.root.local:
        return
    path = plan.locate(track)
    if not path.local:
        return
    try:
        os.listdir(path.local.parent)
    except OSError as error:
        raise CollectionLostError(
            f"{path.local.parent} was there when the run began and can no longer be read ({describe(error)}). Is "
            "its disk still mounted?"
        ) from error
