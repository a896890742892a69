"""Which shards are merged: those that are less than half full, because tracks were added a few at a time."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from featurize.planning.shard_size import BYTES_PER_TRACK, SMALLEST, resolve_tracks_per_shard

Int64 = NDArray[np.int64]
Numeric = NDArray[np.int32] | NDArray[np.int64]


def merge_small_shards(
    folds: Numeric,
    indices: Numeric,
    sizes: Int64,
    tracks_per_shard: int | Literal["auto"],
    only_if_many: bool = False,
) -> NDArray[np.int32]:
    """Merge the shards of each fold that are less than half full; the others stay as they are.

    The small shards of a fold are taken in the order of their indices. Each is added to the small one before it,
    as long as the sum is not larger than a shard may be; a merged shard has the index of its first part. At most
    one small shard is left in each fold, so merging again changes nothing.

    Args:
        folds: int [tracks], fold of each track.
        indices: int [tracks], index of its shard in the fold.
        sizes: int64 [tracks], sizes of the files in bytes; negative for a missing file.
        tracks_per_shard: The setting. For `auto`, the size of a shard is limited in bytes as well.
        only_if_many: Whether to merge only if more than half of all shards are small; for `auto`, if so many have
            less than half of the tracks that the shards of a small collection have.

    Returns:
        The indices of the shards after merging, int32 [tracks].
    """
    most = resolve_tracks_per_shard(tracks_per_shard, len(folds))
    most_bytes = most * BYTES_PER_TRACK if tracks_per_shard == "auto" else None
    # One number for each shard, ascending in fold and index.
    width = int(indices.max(initial=0)) + 1
    keys, shard = np.unique(folds.astype(np.int64) * width + indices, return_inverse=True)
    tracks = np.bincount(shard, minlength=len(keys))
    # float64 is exact up to 8 PiB.
    held = np.bincount(shard, np.maximum(sizes, 0), len(keys)).astype(np.int64)
    small = 2 * tracks < most
    if most_bytes is not None:
        small &= 2 * held < most_bytes
    merged = keys % width
    # A collection that has grown beyond a limit of `auto` has full shards of the size before.
    many = small & (2 * tracks < SMALLEST) if tracks_per_shard == "auto" else small
    if only_if_many and 2 * np.count_nonzero(many) <= len(keys):
        return indices.astype(np.int32)
    fold, first, in_tracks, in_bytes = -1, 0, 0, 0
    for i in np.flatnonzero(small).tolist():
        in_tracks, in_bytes = in_tracks + int(tracks[i]), in_bytes + int(held[i])
        full = in_tracks > most or (most_bytes is not None and in_bytes > most_bytes)
        if full or fold != keys[i] // width:
            fold, first, in_tracks, in_bytes = keys[i] // width, merged[i], int(tracks[i]), int(held[i])
        merged[i] = first
    return np.asarray(merged[shard], np.int32)
