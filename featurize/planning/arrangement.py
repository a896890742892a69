"""Order the tracks of a plan by their shards, and name the shards."""

import dataclasses
import hashlib
import itertools

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featurize.column_file import ROWS_AT_ONCE, ColumnFile, parts, take
from featurize.dataset.feature_settings import FeatureSettings
from featurize.dataset.schema import shard_name
from featurize.planning.shard_plan import fingerprint

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Numeric = NDArray[np.int32] | NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Numbers:
    """Columns of numbers, in the order of a plan.

    Attributes:
        fold: Fold, int32 [tracks].
        index: Index of the shard in the fold, int32 [tracks].
        label: Class index, int32 [tracks].
        size: Size in bytes, int64 [tracks].
    """

    fold: Int32
    index: Int32
    label: Int32
    size: Int64

    @classmethod
    def of(cls, order: Int64, folds: Numeric, indices: Numeric, labels: Numeric, sizes: Int64) -> "Numbers":
        """Return columns in another order."""
        fold, index, label = (column[order].astype(np.int32, copy=False) for column in (folds, indices, labels))
        return cls(fold, index, label, sizes[order])


def arrange(
    order: Int64,
    ids: pa.Array,
    paths: pa.Array,
    groups: pa.Array,
    numbers: Numbers,
    classes: list[str],
    settings: FeatureSettings,
) -> tuple[pa.Table, list[str], Int64, Int32]:
    """Return `tracks`, `names`, `bounds` and `by_track` of a `Plan`.

    Args:
        order: int64 [tracks], rows of the following columns in the order of the plan: by fold, shard, and the
            digest of the id, so that the class distribution of each shard is about that of its fold.
        ids: Ids, in the order of `by_track`.
        paths: As in `Plan.tracks`, in the same order.
        groups: As in `Plan.tracks`, in the same order.
        numbers: Columns in the order of the plan.
        classes: Names of the classes.
        settings: Feature settings.
    """
    fold, index = numbers.fold, numbers.index
    changes = np.flatnonzero((fold[1:] != fold[:-1]) | (index[1:] != index[:-1])) + 1
    bounds = np.concatenate([[0], changes, [len(ids)]])
    track, fingerprints = _in_shards(ids, order, bounds, classes, numbers.label, numbers.size, settings)
    tracks = pa.table(
        {
            "track": track,
            "path": take(paths, order),
            "label": pa.array(numbers.label),
            "group": take(groups, order),
            "fold": pa.array(fold),
            "size": pa.array(numbers.size),
        }
    )
    places = zip(fold[bounds[:-1]].tolist(), index[bounds[:-1]].tolist(), fingerprints, strict=True)
    names = [shard_name(*place) for place in places]
    by_track = np.empty(len(ids), np.int32)
    by_track[order] = np.arange(len(ids), dtype=np.int32)
    return tracks, names, bounds, by_track


def id_digests(ids: pa.Array) -> NDArray[np.uint64]:
    """Return the first eight bytes of the SHA-256 of each id, uint64 [tracks]."""
    digests = np.empty(len(ids), np.uint64)
    done = 0
    for part in parts(ids):
        hashes = b"".join(hashlib.sha256(track.encode()).digest()[:8] for track in part.to_pylist())
        digests[done : done + len(part)] = np.frombuffer(hashes, ">u8")
        done += len(part)
    return digests


def _in_shards(
    ids: pa.Array,
    order: Int64,
    bounds: Int64,
    classes: list[str],
    label: NDArray[np.int32],
    size: Int64,
    settings: FeatureSettings,
) -> tuple[pa.Array, list[str]]:
    """Return the ids in the order of a plan, and the fingerprint of each shard.

    Both in one pass over some shards at a time, so that neither the Python objects nor the mapped pages of all
    tracks are in memory.

    Args:
        ids: Ids in the order of the catalog, string [tracks].
        order: int64 [tracks], the rows of the plan.
        bounds: As in `Plan`.
        classes: Names of the classes.
        label: int32 [tracks], class indices in the order of the plan.
        size: int64 [tracks], sizes in bytes in the order of the plan.
        settings: Feature settings.
    """
    track = ColumnFile(pa.string())
    fingerprints: list[str] = []
    shards_at_once = max(1, ROWS_AT_ONCE * (len(bounds) - 1) // len(order))
    for begin in range(0, len(bounds) - 1, shards_at_once):
        some = bounds[begin : begin + shards_at_once + 1].tolist()
        rows = slice(some[0], some[-1])
        part = ids.take(pa.array(order[rows]))
        track.append(part)
        columns = (part.to_pylist(), label[rows].tolist(), size[rows].tolist())
        listed = [[name, classes[number], number, length] for name, number, length in zip(*columns, strict=True)]
        for first, stop in itertools.pairwise(some):
            fingerprints.append(fingerprint(settings, listed[first - some[0] : stop - some[0]]))
    return track.finish(), fingerprints
