"""One shard, from audio files to a Parquet file: a function of its plan, which knows nothing of Ray."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featurize.audio import Reject, check, decode, read_bytes
from featurize.dataset import SHARD_SCHEMA, write_shard
from featurize.mfcc import N_MFCC, SEGMENT_FRAMES, SEGMENT_SAMPLES, Filters, mfcc_segments, segment_starts
from featurize.shards import ShardPlan


@dataclasses.dataclass(frozen=True)
class ShardResult:
    """What a worker reports of a shard that it wrote."""

    name: str
    tracks: int
    rejects: int


# librosa takes seconds to build its first filters: once a process, not once a shard.
filters_of_process = functools.cache(Filters.from_librosa)


def featurize_track(path: str, settings: dict[str, Any]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Turn one audio file into its segments.

    Args:
        path: the file.
        settings: from `feature_settings`.

    Returns:
        float32 [segments, 40, 217], the MFCC; and float64 [segments], the starts in seconds.

    Raises:
        Reject: the file cannot become rows.
    """
    sample_rate = settings["sample_rate"]
    samples = decode(read_bytes(path), sample_rate)
    check(samples, SEGMENT_SAMPLES, sample_rate)
    starts = segment_starts(len(samples), settings["segments_per_track"])
    return mfcc_segments(samples, starts, filters_of_process()), starts / sample_rate


def write_features(plan: ShardPlan, folder: Path) -> ShardResult:
    """Featurize the tracks of a plan and write their shard, rows and rejects in one step."""
    segments = plan.settings["segments_per_track"]
    mfcc = np.empty((len(plan.tracks), segments, N_MFCC, SEGMENT_FRAMES), np.float32)
    starts = np.empty((len(plan.tracks), segments), np.float64)
    # In float64 and in the order of the tracks, so that the sums are the same wherever they are made.
    sums, squares = np.zeros(N_MFCC), np.zeros(N_MFCC)
    kept: list[int] = []
    rejects = []
    for i, track in enumerate(plan.tracks):
        done = len(kept)
        try:
            mfcc[done], starts[done] = featurize_track(track.path, plan.settings)
        except Reject as reject:
            rejects.append(
                {"path": track.id, "stage": reject.stage, "reason": reject.reason, "message": reject.message}
            )
            continue
        kept.append(i)
        sums += mfcc[done].sum(axis=(0, 2), dtype=np.float64)
        squares += np.square(mfcc[done], dtype=np.float64).sum(axis=(0, 2))

    rows = _rows(plan, kept, mfcc[: len(kept)], starts[: len(kept)])
    footer = {
        "settings": plan.settings,
        "rejects": rejects,
        "statistics": {
            "frames": rows.num_rows * SEGMENT_FRAMES,
            "sum": sums.tolist(),
            "sum_of_squares": squares.tolist(),
        },
    }
    write_shard(folder, plan.name, rows, segments, footer)
    return ShardResult(plan.name, len(plan.tracks), len(rejects))


def _rows(plan: ShardPlan, kept: list[int], mfcc: NDArray[np.float32], starts: NDArray[np.float64]) -> pa.Table:
    """Lay out the kept tracks, whose features are [tracks, segments, ...], by SHARD_SCHEMA."""
    tracks, segments = starts.shape
    columns = [
        pa.array([plan.tracks[i].id for i in kept for _ in range(segments)], pa.string()),
        pa.array(np.repeat(np.array([plan.labels[i] for i in kept], np.int32), segments)),
        pa.array(np.tile(np.arange(segments, dtype=np.int32), tracks)),
        pa.array(starts.reshape(-1)),
        pa.FixedSizeListArray.from_arrays(pa.array(mfcc.reshape(-1)), type=SHARD_SCHEMA.field("mfcc").type),
    ]
    return pa.Table.from_arrays(columns, schema=SHARD_SCHEMA)
