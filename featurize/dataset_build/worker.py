"""One shard, from audio files to a Parquet file: a function of its plan, which knows nothing of Ray."""

import dataclasses
import faulthandler
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from featurize.audio.load import load
from featurize.audio.mfcc import Filters, mfcc_segments, segment_starts
from featurize.dataset.footer import parse_footer
from featurize.dataset.info import FeatureSettings
from featurize.dataset.reader import UNREADABLE
from featurize.dataset.schema import MFCC_SHAPE, mfcc_array
from featurize.dataset_build.shard_writer import ShardWriter
from featurize.errors import CollectionLostError, Reject
from featurize.planning.shard_plan import ShardPlan, Track
from featurize.storage import StoragePath, describe

TrackSegments = tuple[NDArray[np.float32], NDArray[np.float64]]


@dataclasses.dataclass(frozen=True)
class ShardResult:
    """What a worker reports of a shard that it wrote."""

    name: str
    tracks: int
    rejects: int


def write_features(
    plan: ShardPlan,
    folder: StoragePath,
    filters: Filters,
    track_timeout: float | None = None,
    excluded: Mapping[str, Reject] | None = None,
) -> ShardResult:
    """Featurize the tracks of a plan and write their shard, rows and rejects in one step.

    Args:
        plan: what to do.
        folder: the dataset's folder.
        filters: from `Filters.from_librosa()`.
        track_timeout: seconds after which a track that is still at work ends this process; None for never.
        excluded: tracks that are known to crash or to hang the decoder, and are not touched.

    Raises:
        CollectionLostError: files that were there when the run was planned can no longer be reached.
        OSError: the shard cannot be written.
    """
    if folder.local and not folder.is_folder():
        # It would be made here, on the wrong disk.
        raise CollectionLostError(
            f"{folder} is not there on {socket.gethostname()}. Mount it on every node, or use a URI."
        )
    had_rows, had_rejects = _read_previous(plan, folder)
    writer = ShardWriter(plan)
    for track in plan.tracks:
        if (key := (track.id, track.size)) in had_rows:
            writer.add(track, *had_rows[key])
            continue
        try:
            if reject := had_rejects.get(track.id) or (excluded or {}).get(track.id):
                raise reject
            with time_limit(track_timeout):
                rows = featurize_track(plan.root / track.path, plan.settings, filters)
        except Reject as reject:
            _refuse_lost_collection(plan, track, reject)
            writer.reject(track, reject)
        else:
            writer.add(track, *rows)
    writer.finish(folder)
    return ShardResult(plan.name, len(plan.tracks), writer.rejects)


def featurize_track(place: StoragePath, settings: FeatureSettings, filters: Filters) -> TrackSegments:
    """Turn one audio file into its segments.

    Args:
        place: the file.
        settings: from `feature_settings`.
        filters: from `Filters.from_librosa()`.

    Returns:
        float32 [segments, 40, 217], the MFCC; and float64 [segments], the starts in seconds from the beginning
        of what was read.

    Raises:
        Reject: the file cannot become rows.
        CollectionLostError: a file elsewhere cannot be reached.
    """
    samples = load(place, settings)
    starts = segment_starts(len(samples), settings.segments_per_track)
    return mfcc_segments(samples, starts, filters), starts / settings.sample_rate


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """End this process if it is still in here after some seconds, even in native code that never returns."""
    if seconds is None:
        yield
        return
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _read_previous(
    plan: ShardPlan, folder: StoragePath
) -> tuple[dict[tuple[str, int], TrackSegments], dict[str, Reject]]:
    """Read what the earlier shard in this one's place holds of the same settings: rows and rejects by track."""
    if plan.previous is None:
        return {}, {}
    place = folder / "shards" / plan.previous
    try:
        file = pq.ParquetFile(place.path, **place.arrow)
        footer = parse_footer(file.metadata)
        if footer.settings != plan.settings.model_dump():
            return {}, {}
        table = file.read(["start", "mfcc"], use_threads=False)
    except UNREADABLE:
        return {}, {}  # broken or gone: everything is computed
    segments = plan.settings.segments_per_track
    mfcc = mfcc_array(table["mfcc"]).reshape(-1, segments, *MFCC_SHAPE)
    starts = table["start"].to_numpy().reshape(-1, segments)
    kept = zip(footer.tracks.track, footer.tracks.size, strict=True)
    rows = {key: (mfcc[i], starts[i]) for i, key in enumerate(kept)}
    if plan.retry_rejects:
        return rows, {}
    return rows, {r.path: Reject(r.stage, r.reason, r.message) for r in footer.rejects}


def _refuse_lost_collection(plan: ShardPlan, track: Track, reject: Reject) -> None:
    """Tell a file that is gone from a disk that is gone: then nothing may be written about its tracks."""
    if reject.stage != "open" or track.size < 0:
        return
    place = plan.root / track.path
    if not place.local:
        return
    try:
        os.listdir(place.local.parent)
    except OSError as error:
        raise CollectionLostError(
            f"{place.local.parent} was there when the run began and can no longer be read ({describe(error)}). Is "
            "its disk still mounted?"
        ) from error
