"""Small shards are merged by a pure function of the plan."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from featurize.planning.shard_size import BYTES_PER_TRACK
from featurize.planning.small_shards import merge_small_shards

# For each shard: its fold, the gap to the index of the one before, and the sizes of its files.
SIZES = st.one_of(st.just(-1), st.integers(0, 1000), st.integers(0, 64 * BYTES_PER_TRACK))
SHARDS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(1, 3), st.lists(SIZES, min_size=1, max_size=70)),
    min_size=1,
    max_size=12,
)
SETTINGS = st.one_of(st.just("auto"), st.integers(1, 40))


def _columns(shards):
    index, rows = 0, []
    for fold, gap, sizes in shards:
        index += gap
        rows += [(fold, index, size) for size in sizes]
    return (np.array(column, np.int64) for column in zip(*rows, strict=True))


def _shards(folds, indices, sizes):
    """Return the rows of each shard by fold and index."""
    found: dict = {}
    for row, place in enumerate(zip(folds.tolist(), indices.tolist(), strict=True)):
        found.setdefault(place, []).append(row)
    return {place: (frozenset(rows), int(np.maximum(sizes[rows], 0).sum())) for place, rows in found.items()}


def test_full_shards_stay_when_a_collection_grows_beyond_a_limit_of_auto():
    """Of 20,500 tracks in shards of 63, and one more; from 20,001 on, a shard has up to 128."""
    folds = np.append(np.repeat(np.arange(5), 4100), 0)
    indices = np.append(np.tile(np.arange(4100) // 63, 5), 99)
    sizes = np.full(len(folds), 1000)
    assert np.array_equal(merge_small_shards(folds, indices, sizes, "auto", only_if_many=True), indices)
    assert not np.array_equal(merge_small_shards(folds, indices, sizes, "auto"), indices)


@given(SHARDS, SETTINGS)
def test_merged_shards_are_whole_small_ones_of_one_fold_and_not_too_large(shards, setting):
    folds, indices, sizes = _columns(shards)
    merged = merge_small_shards(folds, indices, sizes, setting)
    most = 64 if setting == "auto" else setting
    most_bytes = most * BYTES_PER_TRACK if setting == "auto" else np.inf
    before, after = _shards(folds, indices, sizes), _shards(folds, merged, sizes)

    def is_small(rows, held):
        return 2 * len(rows) < most and 2 * held < most_bytes

    for (fold, index), (rows, held) in before.items():
        if not is_small(rows, held):
            assert after[fold, index] == (rows, held)
    for place, (rows, held) in after.items():
        parts = {name: part for name, part in before.items() if part[0] <= rows}
        assert frozenset().union(*(part for part, _ in parts.values())) == rows
        assert min(parts) == place
        if len(parts) > 1:
            assert len(rows) <= most
            assert held <= most_bytes
            assert all(is_small(*part) for part in parts.values())
    for fold in set(folds.tolist()):
        assert sum(is_small(*part) for place, part in after.items() if place[0] == fold) <= 1
    assert np.array_equal(merge_small_shards(folds, merged, sizes, setting), merged)
    few = merge_small_shards(folds, indices, sizes, setting, only_if_many=True)
    many = 2 * sum(is_small(*part) for part in before.values()) > len(before)
    assert np.array_equal(few, merged if many else indices)


def test_a_year_of_daily_additions_is_merged_into_full_shards():
    indices = np.repeat(np.arange(365), 20)
    merged = merge_small_shards(np.zeros_like(indices), indices, np.full(len(indices), 1000), "auto")
    counts = np.unique(merged, return_counts=True)[1]
    assert counts.tolist() == [60] * 121 + [40]
