"""How many tracks a shard has, and where the tracks of a fold are cut into shards."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]

SMALLEST = 64
# Tracks of a collection up to which a shard has so many tracks. Ray starts 520 tasks a second, and a thousand
# cores read 78,000 ten-second tracks in that time: 150 for each task. In a bucket, a worker waits for the first
# file of each shard. Small collections have small shards, so that there are enough for all cores.
_SIZES = ((20_000, SMALLEST), (1_000_000, 128))
_LARGEST = 256
# 64 MiB a track: an hour of 16-bit stereo takes 600 MiB, and five minutes 50.
BYTES_PER_TRACK = 64 << 20


def resolve_tracks_per_shard(setting: int | Literal["auto"], tracks: int) -> int:
    """Return the maximum number of tracks of a shard.

    Args:
        setting: The setting `tracks_per_shard`.
        tracks: Number of tracks of the collection.
    """
    if setting != "auto":
        return setting
    return next((size for most, size in _SIZES if tracks <= most), _LARGEST)


def cut(sizes: Int64, tracks_per_shard: int, by_bytes: bool) -> Int64:
    """Return the number of the shard of each track, int64 [tracks], from 0 and ascending.

    Args:
        sizes: int64 [tracks], sizes of the files in bytes, in the order of the tracks.
        tracks_per_shard: Maximum number of tracks of a shard; shards differ by at most one track.
        by_bytes: Whether a shard is divided further if its files have more than 64 MiB for each track that it may
            have. A file that is larger alone is the only one of its shard.
    """
    shards = -(-len(sizes) // tracks_per_shard)
    cuts = np.arange(shards + 1) * len(sizes) // max(shards, 1)
    number = np.repeat(np.arange(shards), np.diff(cuts))
    most = tracks_per_shard * BYTES_PER_TRACK
    held = np.maximum(sizes, 0)
    if not by_bytes or not len(sizes) or np.add.reduceat(held, cuts[:-1]).max() <= most:
        return number
    begins = np.zeros(len(sizes), bool)
    begins[cuts[:-1]] = True
    in_shard = 0
    for track, size in enumerate(held.tolist()):
        if begins[track] or in_shard + size > most:
            begins[track] = True
            in_shard = 0
        in_shard += size
    return np.cumsum(begins) - 1
