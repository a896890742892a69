"""Assign each track to a fold and a shard, and keep assignments when the collection changes.

The plan is stored as `tracks.parquet` before the first shard is written. A later run starts from it: tracks in the
plan keep their fold and shard, new tracks go to new shards, and a shard that loses a track is replaced.
"""

import dataclasses
import json
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featurize.collection.catalog import Catalog, stored_path
from featurize.column_file import one_array
from featurize.config import FeaturizeConfig
from featurize.dataset.feature_settings import FeatureSettings
from featurize.dataset.info import DEFAULT_LAYOUT, FoldLayout
from featurize.dataset.output_folder import PLAN_KEY
from featurize.dataset.schema import FOLD_NUMBERS, FORMAT_VERSION
from featurize.planning.arrangement import Numbers, arrange, id_digests
from featurize.planning.fold_remarks import fold_remarks
from featurize.planning.folds import GivenFolds, PreviousFolds, resolve_folds
from featurize.planning.groups import Groups
from featurize.planning.plan_table import write_plan_table
from featurize.planning.previous_plan import PreviousPlan, previous_places, rows_in_previous
from featurize.planning.shard_plan import ShardPlan, Track, feature_settings
from featurize.planning.shard_size import cut, resolve_tracks_per_shard
from featurize.planning.small_shards import merge_small_shards
from featurize.storage import StoragePath

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A collection divided into shards.

    Attributes:
        root: Root folder of the collection.
        settings: Feature settings.
        classes: Class names; the label of a track is an index into this list.
        grouping: Source of the groups: the name of a tag, `none`, or `table`.
        tracks: Table with the columns track (id), path, label (class index), group, fold and size in bytes. The
            tracks of a shard are consecutive rows.
        names: Names of the shards below `shards/`.
        bounds: int64 [shards + 1]; the tracks of `names[i]` are the rows [bounds[i], bounds[i + 1]).
        by_track: Rows of `tracks` in the order of the ids, int32 [tracks].
        layout: What the folds are for.
        remarks: What a user should know about the folds, for the log.
        unreachable: As in `Catalog`.
    """

    root: StoragePath
    settings: FeatureSettings
    classes: list[str]
    grouping: str
    tracks: pa.Table
    names: list[str]
    bounds: Int64
    by_track: NDArray[np.int32]
    layout: FoldLayout
    remarks: tuple[str, ...]
    unreachable: frozenset[str]

    def shard(self, position: int, previous: tuple[str, ...], retry_rejects: bool) -> ShardPlan:
        """Return the plan of the shard `names[position]`; `previous` and `retry_rejects` as in `ShardPlan`."""
        first, stop = self.bounds[position : position + 2]
        rows = self.tracks.slice(first, stop - first)
        tracks = [
            Track(
                row["track"],
                stored_path(row["track"], row["path"]),
                row["label"],
                row["size"],
            )
            for row in rows.to_pylist()
        ]
        return ShardPlan(
            self.names[position], self.root, tracks, self.settings, previous, retry_rejects, self.unreachable
        )

    def shard_bytes(self) -> Int64:
        """Return the total size of the files of each shard in bytes, int64 [shards]."""
        sizes = np.maximum(one_array(self.tracks["size"]).to_numpy(), 0)
        return np.add.reduceat(sizes, self.bounds[:-1])

    def save(self, folder: StoragePath) -> None:
        """Write `tracks.parquet`, sorted by track id."""
        about: dict[str, Any] = {
            "format": FORMAT_VERSION,
            "settings": self.settings.model_dump(),
            "classes": self.classes,
            "grouping": self.grouping,
        }
        if self.layout != DEFAULT_LAYOUT:
            about["folds"] = self.layout.model_dump()
        shard = np.repeat(np.arange(len(self.names), dtype=np.int32), np.diff(self.bounds))
        metadata = {PLAN_KEY: json.dumps(about).encode()}
        path = folder / "tracks.parquet"
        write_plan_table(path, self.tracks, self.by_track, self.classes, (self.names, shard), metadata)


def make_plan(
    catalog: Catalog,
    config: FeaturizeConfig,
    previous: PreviousPlan | None,
    groups: Groups,
) -> Plan:
    """Determine the fold and the shard of every track.

    The plan is a function of the arguments. Tracks are ordered by a hash of their ids, in a shard and across new
    shards, so that the class distribution of each shard is about that of its fold.

    Args:
        catalog: Tracks of the collection.
        config: Settings.
        previous: Previous plan; None for a new folder.
        groups: Group of every track.

    Raises:
        FeaturizeError: There are too few groups or folds.
    """
    settings = feature_settings(config)
    ids = one_array(catalog.tracks["track"])
    previous_rows = rows_in_previous(ids, previous)
    classes, labels = _resolve_classes(catalog, previous)
    given = GivenFolds(*(one_array(catalog.tracks[name]) for name in ("split", "fold")))
    kept = None
    if previous is not None and previous.grouping == groups.grouping:
        previous_folds = np.where(
            previous_rows >= 0, previous.tracks["fold"].to_numpy()[previous_rows], np.int32(-1)
        )
        kept = PreviousFolds(previous_folds, previous.layout)
    folds, layout = resolve_folds(groups, labels, given, kept)
    remarks = tuple(fold_remarks(groups.groups, given, folds, layout, kept))
    digests = id_digests(ids)
    sizes = one_array(catalog.tracks["size"]).to_numpy()
    indices = _resolve_shard_indices(
        folds, digests, sizes, config.tracks_per_shard, settings, previous, previous_rows
    )
    order = np.lexsort((digests, indices, folds))
    numbers = Numbers.of(order, folds, indices, labels, sizes)
    del digests, indices, folds, labels, previous_rows, kept
    paths = one_array(catalog.tracks["path"])
    arranged = arrange(order, ids, paths, groups.groups, numbers, classes, settings)
    return Plan(
        catalog.root,
        settings,
        classes,
        groups.grouping,
        *arranged,
        layout,
        remarks,
        catalog.unreachable,
    )


def _resolve_classes(catalog: Catalog, previous: PreviousPlan | None) -> tuple[list[str], Int32]:
    """Return the class names and the class index of each track, int32 [tracks].

    Classes of the previous plan come first, in their order, so that they keep their indices unless one is removed.
    New classes follow in alphabetical order.
    """
    labels = one_array(catalog.tracks["label"])
    present = set(labels.dictionary.take(labels.indices.unique()).to_pylist())
    known = [label for label in previous.classes if label in present] if previous else []
    classes = known + sorted(present - set(known))
    index_of = {label: index for index, label in enumerate(classes)}
    index = np.array([index_of.get(label, -1) for label in labels.dictionary.to_pylist()], np.int32)
    return classes, index[labels.indices.to_numpy()]


def _resolve_shard_indices(
    folds: Int32,
    digests: NDArray[np.uint64],
    sizes: Int64,
    tracks_per_shard: int | Literal["auto"],
    settings: FeatureSettings,
    previous: PreviousPlan | None,
    previous_rows: Int32,
) -> Int32:
    """Return the index of each track's shard in its fold, int32 [tracks].

    Tracks of the previous plan keep their shard if settings and fold are unchanged. The other tracks of a fold are
    divided among new shards of nearly equal size. If there are new tracks beside kept ones, and more than half of
    the shards are less than half full, these are merged.
    """
    most = resolve_tracks_per_shard(tracks_per_shard, len(folds))
    indices = np.full(len(folds), -1, np.int32)
    next_index = np.zeros(FOLD_NUMBERS, np.int64)
    if previous is not None and previous.settings == settings:
        previous_fold, previous_index = previous_places(previous)
        np.maximum.at(next_index, previous_fold, previous_index + 1)
        stay = (previous_rows >= 0) & (previous_fold[previous_rows] == folds)
        indices[stay] = previous_index[previous_rows[stay]]
    added = 0
    for fold in range(FOLD_NUMBERS):
        new = np.flatnonzero((folds == fold) & (indices < 0))
        new = new[np.argsort(digests[new], kind="stable")]
        indices[new] = next_index[fold] + cut(sizes[new], most, by_bytes=tracks_per_shard == "auto")
        added += len(new)
    # A run that goes on after a kill adds nothing, so it keeps the plan that the first one stored.
    if added and added < len(folds):
        return merge_small_shards(folds, indices, sizes, tracks_per_shard, only_if_many=True)
    return indices
