"""How many tracks a shard has: a number, or by the size of the collection and of its files."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurize.planning.shard_size import cut, resolve_tracks_per_shard

MEBIBYTE = 1 << 20
LIMIT = 64 * MEBIBYTE  # of a track, on average


@pytest.mark.parametrize(
    ("setting", "tracks", "expected"),
    [
        ("auto", 1, 64),
        ("auto", 20_000, 64),
        ("auto", 20_001, 128),
        ("auto", 1_000_000, 128),
        ("auto", 1_000_001, 256),
        (64, 10_000_000, 64),
        (7, 10, 7),
    ],
)
def test_auto_means_64_tracks_except_in_large_collections(setting, tracks, expected):
    assert resolve_tracks_per_shard(setting, tracks) == expected


def test_shards_of_ordinary_files_differ_by_one_track_whatever_their_sizes():
    sizes = np.random.default_rng(0).integers(0, 60 * MEBIBYTE, 1000)
    shards = cut(sizes, 64, by_bytes=True)
    assert (shards == cut(np.zeros(1000, np.int64), 64, by_bytes=False)).all()
    assert set(np.bincount(shards)) == {62, 63}


def test_long_mixes_among_clips_are_in_smaller_shards():
    sizes = np.full(1000, MEBIBYTE)
    sizes[100:164] = 1200 * MEBIBYTE
    shards = cut(sizes, 64, by_bytes=True)
    assert np.bincount(shards, sizes).max() <= 64 * LIMIT
    assert np.bincount(shards).max() == 63
    assert shards.max() + 1 > 16
    assert (cut(sizes, 64, by_bytes=False) == cut(np.zeros(1000, np.int64), 64, by_bytes=True)).all()


@given(
    sizes=st.lists(st.integers(-1, 5000 * MEBIBYTE), max_size=200),
    tracks_per_shard=st.integers(1, 64),
    by_bytes=st.booleans(),
)
def test_every_track_is_in_a_shard_within_the_limits(sizes, tracks_per_shard, by_bytes):
    sizes = np.array(sizes, np.int64)
    shards = cut(sizes, tracks_per_shard, by_bytes)
    counts = np.bincount(shards)
    assert len(shards) == len(sizes)
    assert (np.diff(shards, prepend=0) >= 0).all()
    assert (counts > 0).all()
    assert not len(counts) or counts.max() <= tracks_per_shard
    if by_bytes:
        held = np.bincount(shards, np.maximum(sizes, 0))
        assert ((held <= tracks_per_shard * LIMIT) | (counts == 1)).all()
