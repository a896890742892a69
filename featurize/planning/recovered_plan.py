"""Rebuild a lost plan from the footers of finished shards, so that their tracks keep fold, shard and class index.

`tracks.parquet` may be lost, or empty after a full disk, while the shards beside it are whole. Without it, a
collection that has changed since its first run would be dealt into other folds, and no shard would be kept.
"""

import dataclasses
from collections import Counter

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import ValidationError

from featurize.collection.catalog import Catalog
from featurize.dataset.feature_settings import FeatureSettings
from featurize.dataset.footer import ShardFooter, read_footer
from featurize.dataset.info import DEFAULT_LAYOUT, FoldLayout, read_info
from featurize.dataset.reader import UNREADABLE, in_threads
from featurize.dataset.schema import FOLD_NUMBERS, TRACKS_SCHEMA, fold_of
from featurize.dataset.tables import read_table
from featurize.errors import DatasetError
from featurize.planning.groups import Groups
from featurize.planning.previous_plan import PreviousPlan
from featurize.storage import StoragePath


@dataclasses.dataclass(frozen=True)
class _Finished:
    """What a finished shard says about its tracks.

    Attributes:
        name: Name of the shard.
        footer: Its footer.
        labels: int32 [tracks with rows], class indices in the order of the footer.
    """

    name: str
    footer: ShardFooter
    labels: NDArray[np.int32]

    @property
    def tracks(self) -> list[str]:
        """Ids of all its tracks, rejects included."""
        return [*self.footer.tracks.track, *(reject.path for reject in self.footer.rejects)]


def recover_plan(
    folder: StoragePath, names: set[str], catalog: Catalog, groups: Groups, settings: FeatureSettings
) -> PreviousPlan | None:
    """Rebuild the plan of the finished shards in a folder.

    Args:
        folder: Dataset folder.
        names: Names of its finished shards.
        catalog: Tracks of the collection, with their labels and sizes; footers have neither for rejects.
        groups: Group of each track.
        settings: Feature settings of this run; of two shards with the same tracks, those with these count.

    Returns:
        Plan of the tracks that are in the collection and in a readable shard; None if there are none.
    """
    known_folds = sorted(name for name in names if fold_of(name) < FOLD_NUMBERS)
    shards = [shard for shard in in_threads(lambda name: _read(folder, name), known_folds) if shard]
    columns = (catalog.tracks[name].to_pylist() for name in ("track", "label", "size"))
    known = {
        track: (label, group, size)
        for track, label, size, group in zip(*columns, groups.groups.to_pylist(), strict=True)
    }
    stored = settings.model_dump()

    def precedence(shard: _Finished) -> tuple[bool, int, str]:
        """Prefer these settings and present tracks: shards of an earlier plan remain after a kill."""
        return shard.footer.settings != stored, sum(track not in known for track in shard.tracks), shard.name

    shards.sort(key=precedence)
    shard_of: dict[str, str] = {}
    for shard in shards:
        for track in shard.tracks:
            if track in known:
                shard_of.setdefault(track, shard.name)
    if not shard_of:
        return None
    rows = sorted(shard_of)
    table = pa.table(
        [
            pa.array(rows),
            *(pa.array([known[track][i] for track in rows], pa.string()) for i in (0, 1)),
            pa.array([fold_of(shard_of[track]) for track in rows], pa.int32()),
            pa.array([known[track][2] for track in rows], pa.int64()),
            pa.array([shard_of[track] for track in rows]).dictionary_encode(),
        ],
        schema=TRACKS_SCHEMA,
    )
    return PreviousPlan(
        table,
        _settings(shards[0].footer),
        _classes(folder, shards, known),
        _grouping(table, groups),
        _layout(folder, table, catalog),
    )


def _read(folder: StoragePath, name: str) -> _Finished | None:
    """Read what a plan needs from a shard; None if it is broken."""
    footer = read_footer(folder, name)
    if footer is None:
        return None
    settings = _settings(footer)
    schema = settings.format.schema if settings else None
    try:
        labels = read_table(folder / "shards" / name, ["label"], schema)["label"].to_numpy()
    except UNREADABLE:
        return None
    if labels.dtype != np.int32:
        return None
    tracks = len(footer.tracks.track)
    return _Finished(name, footer, labels[:: len(labels) // tracks] if tracks and len(labels) else labels[:0])


def _settings(footer: ShardFooter) -> FeatureSettings | None:
    """Return the settings of a shard; None if another version of Earmark wrote them."""
    try:
        return FeatureSettings.model_validate(footer.settings)
    except ValidationError:
        return None


def _classes(folder: StoragePath, shards: list[_Finished], known: dict[str, tuple[str, str, int]]) -> list[str]:
    """Return the class names by index: from `dataset.json`, or from the labels of the rows.

    An index without rows gets the first class, in alphabetical order, that has no rows.
    """
    try:
        if info := read_info(folder):
            return info.classes
    except DatasetError:
        pass
    votes: dict[int, Counter[str]] = {}
    for shard in shards:
        for track, label in zip(shard.footer.tracks.track, shard.labels.tolist(), strict=False):
            if track in known:
                votes.setdefault(label, Counter())[known[track][0]] += 1
    name_of: dict[int, str] = {}
    for label, names in sorted(votes.items()):
        name = next((name for name, _ in names.most_common() if name not in name_of.values()), None)
        if name is not None:
            name_of[label] = name
    others = iter(sorted({label for label, _, _ in known.values()} - set(name_of.values())))
    classes = (name_of.get(i) or next(others, None) for i in range(max(name_of, default=-1) + 1))
    return [name for name in classes if name is not None]


def _grouping(table: pa.Table, groups: Groups) -> str:
    """Return the grouping of the lost plan: the one of this run, unless a group would be in two folds."""
    pairs = table.group_by(["group", "fold"]).aggregate([])
    return groups.grouping if len(set(pairs["group"].to_pylist())) == len(pairs) else ""


def _layout(folder: StoragePath, table: pa.Table, catalog: Catalog) -> FoldLayout:
    """Return what the folds of the lost plan are for: from `dataset.json`, or from the split of the collection."""
    folds = set(table["fold"].unique().to_pylist())
    try:
        if (info := read_info(folder)) and folds <= info.layout.numbers:
            return info.layout
    except DatasetError:
        pass
    split_of = dict(zip(catalog.tracks["track"].to_pylist(), catalog.tracks["split"].to_pylist(), strict=True))
    votes: dict[int, Counter[str]] = {}
    for track, fold in zip(table["track"].to_pylist(), table["fold"].to_pylist(), strict=True):
        votes.setdefault(fold, Counter())[split_of[track] or "train"] += 1
    part_of = {fold: count.most_common(1)[0][0] for fold, count in votes.items()}
    official = {part: fold for fold, part in sorted(part_of.items()) if part != "train"}
    training = folds - set(official.values())
    if not official and training <= DEFAULT_LAYOUT.numbers:
        return DEFAULT_LAYOUT
    try:
        return FoldLayout(training=sorted(training), **official)
    except ValidationError:  # too few of its shards are finished
        return DEFAULT_LAYOUT
