"""Which track goes into which fold and which shard: now, and again when the collection has changed.

The plan is written down as `tracks.parquet` before the first shard is made. A later run starts from it: tracks
that are in it keep their fold and their shard, new tracks come into new shards, and a shard that loses a track
becomes another one without it.
"""

import dataclasses
import hashlib
import itertools
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featurize.collection.catalog import Catalog
from featurize.config import FeaturizeConfig
from featurize.dataset.info import FeatureSettings
from featurize.dataset.schema import FOLDS, FORMAT_VERSION, TRACKS_SCHEMA, part_of, shard_name
from featurize.dataset.tables import write_table
from featurize.planning.folds import resolve_folds
from featurize.planning.groups import Groups
from featurize.planning.previous_plan import PLAN_KEY, PreviousPlan, rows_in_previous
from featurize.planning.shard_plan import ShardPlan, Track, feature_settings, fingerprint
from featurize.storage import StoragePath

Int64 = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A collection cut into shards.

    Attributes:
        root: where the tracks' paths begin.
        settings: from `feature_settings`.
        classes: the class names; a track's label is an index into them.
        grouping: where the groups come from: a tag, `none`, or `table`.
        tracks: track, path, label (index), group, fold, size; the tracks of a shard one after another.
        names: of the shards, below `shards/`.
        bounds: int64 [shards + 1]; the tracks of shard i are the rows [bounds[i], bounds[i + 1]).
    """

    root: StoragePath
    settings: FeatureSettings
    classes: list[str]
    grouping: str
    tracks: pa.Table
    names: list[str]
    bounds: Int64

    def shard(self, index: int, previous: str | None, retry_rejects: bool) -> ShardPlan:
        """Return the work for one shard."""
        rows = self._rows(index)
        tracks = [
            Track(
                row["track"],
                row["track"] if row["path"] is None else os.fsdecode(row["path"]),
                row["label"],
                row["size"],
            )
            for row in rows.to_pylist()
        ]
        return ShardPlan(self.names[index], self.root, tracks, self.settings, previous, retry_rejects)

    def save(self, folder: StoragePath) -> None:
        """Write `tracks.parquet`, in the order of the tracks' names."""
        lengths = np.diff(self.bounds)
        names = pa.DictionaryArray.from_arrays(
            pa.array(np.repeat(np.arange(len(self.names), dtype=np.int32), lengths)),
            pa.array(self.names, pa.string()),
        )
        about = {
            "format": FORMAT_VERSION,
            "settings": self.settings.model_dump(),
            "classes": self.classes,
            "grouping": self.grouping,
        }
        labels = pc.take(pa.array(self.classes, pa.string()), self.tracks["label"])
        table = pa.table(
            [self.tracks["track"], labels, *(self.tracks[name] for name in ("group", "fold", "size")), names],
            schema=TRACKS_SCHEMA.with_metadata({PLAN_KEY: json.dumps(about).encode()}),
        ).sort_by("track")
        write_table(folder / "tracks.parquet", table)

    def _rows(self, index: int) -> pa.Table:
        first, stop = self.bounds[index : index + 2]
        return self.tracks.slice(first, stop - first)


def make_plan(
    catalog: Catalog,
    config: FeaturizeConfig,
    previous: PreviousPlan | None,
    groups: Groups,
) -> Plan:
    """Settle the fold and the shard of every track.

    The plan depends on the catalog, the settings, the previous plan and the groups alone. Tracks of a shard,
    and shards made in one go, are in the order of a hash of the tracks' names, so that a shard mixes the classes
    as its fold does.

    Args:
        catalog: the collection.
        config: the settings.
        previous: The plan before this one; None for a new folder.
        groups: Group of every track.

    Raises:
        FeaturizeError: groups and folds contradict one another, or there are too few groups.
    """
    settings = feature_settings(config)
    ids = catalog.tracks["track"].combine_chunks()
    before = rows_in_previous(ids, previous)
    classes, labels = _resolve_classes(catalog, previous)
    folds_before = np.full(len(ids), -1)
    if previous is not None and previous.grouping == groups.grouping:
        folds_before = np.where(before >= 0, previous.tracks["fold"].to_numpy()[before], -1)
    folds = resolve_folds(groups.groups, labels, catalog.tracks["fold"].combine_chunks(), folds_before)
    digests = np.fromiter(
        (int.from_bytes(hashlib.sha256(track.as_py().encode()).digest()[:8], "big") for track in ids),
        np.uint64,
        len(ids),
    )
    parts = _resolve_shard_indices(folds, digests, config.tracks_per_shard, settings, previous, before)
    order = np.lexsort((digests, parts, folds))
    tracks = pa.table(
        {
            "track": ids,
            "path": catalog.tracks["path"],
            "label": pa.array(labels.astype(np.int32)),
            "group": groups.groups,
            "fold": pa.array(folds.astype(np.int32)),
            "size": catalog.tracks["size"],
        }
    ).take(pa.array(order))
    changes = np.flatnonzero(np.diff(folds[order]) | np.diff(parts[order])) + 1
    bounds = np.concatenate([[0], changes, [len(ids)]])
    names = [
        shard_name(
            int(folds[order[first]]),
            int(parts[order[first]]),
            _fingerprint(tracks, classes, settings, first, stop),
        )
        for first, stop in itertools.pairwise(bounds.tolist())
    ]
    return Plan(catalog.root, settings, classes, groups.grouping, tracks, names, bounds)


def _fingerprint(tracks: pa.Table, classes: list[str], settings: FeatureSettings, first: int, stop: int) -> str:
    rows = tracks.slice(first, stop - first)
    columns = (rows[name].to_pylist() for name in ("track", "label", "size"))
    return fingerprint(
        settings, [[track, classes[label], label, size] for track, label, size in zip(*columns, strict=True)]
    )


def _resolve_classes(catalog: Catalog, previous: PreviousPlan | None) -> tuple[list[str], Int64]:
    """Put the classes in alphabetical order, new ones after those that a dataset has already."""
    labels = catalog.tracks["label"].combine_chunks()
    present = set(labels.dictionary.take(labels.indices.unique()).to_pylist())
    known = [label for label in previous.classes if label in present] if previous else []
    classes = known + sorted(present - set(known))
    index_of = {label: index for index, label in enumerate(classes)}
    index = np.array([index_of.get(label, -1) for label in labels.dictionary.to_pylist()], np.int64)
    return classes, index[labels.indices.to_numpy()]


def _resolve_shard_indices(
    folds: Int64,
    digests: NDArray[np.uint64],
    tracks_per_shard: int,
    settings: FeatureSettings,
    previous: PreviousPlan | None,
    before: Int64,
) -> Int64:
    """Number the shard of each track within its fold: the one it is in, or one of nearly equal new ones."""
    parts = np.full(len(folds), -1)
    next_part = np.zeros(FOLDS, np.int64)
    if previous is not None and previous.settings == settings:
        shard = previous.tracks["shard"].combine_chunks()
        there = np.array([part_of(name) for name in shard.dictionary.to_pylist()], np.int64)[
            shard.indices.to_numpy()
        ]
        np.maximum.at(next_part, there[:, 0], there[:, 1] + 1)
        stay = (before >= 0) & (there[before, 0] == folds)
        parts[stay] = there[before[stay], 1]
    for fold in range(FOLDS):
        new = np.flatnonzero((folds == fold) & (parts < 0))
        new = new[np.argsort(digests[new], kind="stable")]
        shards = -(-len(new) // tracks_per_shard)
        cuts = np.arange(shards + 1) * len(new) // max(shards, 1)
        parts[new] = np.repeat(next_part[fold] + np.arange(shards), np.diff(cuts))
    return parts
