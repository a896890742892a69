"""Read the plan of the previous run back from `tracks.parquet`."""

import bisect
import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from featurize.column_file import ROWS_AT_ONCE, is_ascending, one_array
from featurize.dataset.feature_settings import FeatureSettings
from featurize.dataset.info import DEFAULT_LAYOUT, FoldLayout
from featurize.dataset.json_text import parse_json
from featurize.dataset.output_folder import PLAN_KEY
from featurize.dataset.reader import UNREADABLE
from featurize.dataset.schema import FORMAT_VERSION, fold_and_index, fold_of
from featurize.errors import DatasetError
from featurize.planning.plan_table import read_plan_table
from featurize.storage import StoragePath


class _About(BaseModel):
    """What `Plan.save` writes to the metadata of `tracks.parquet`."""

    model_config = ConfigDict(strict=True)

    format: int
    settings: dict[str, Any]
    classes: list[str]
    grouping: str
    folds: FoldLayout | None = None


@dataclasses.dataclass(frozen=True)
class PreviousPlan:
    """Plan of the previous run in a dataset folder.

    Attributes:
        tracks: Table with TRACKS_SCHEMA.
        settings: Feature settings; None if another version of Earmark stored other keys.
        classes, grouping, layout: As in `Plan`.
    """

    tracks: pa.Table
    settings: FeatureSettings | None
    classes: list[str]
    grouping: str
    layout: FoldLayout = DEFAULT_LAYOUT


def read_plan(folder: StoragePath) -> PreviousPlan | None:
    """Read the plan in a folder; return None if it is missing, unreadable, or has another format."""
    path = folder / "tracks.parquet"
    if not path.is_file():
        return None
    try:
        tracks = read_plan_table(path)
        about = _About.model_validate(parse_json((tracks.schema.metadata or {})[PLAN_KEY]))
        _refuse_inconsistent(tracks, about)
    except (DatasetError, *UNREADABLE):
        return None
    if about.format != FORMAT_VERSION:
        return None
    try:
        settings = FeatureSettings.model_validate(about.settings)
    except ValidationError:
        settings = None
    return PreviousPlan(tracks, settings, about.classes, about.grouping, about.folds or DEFAULT_LAYOUT)


def _refuse_inconsistent(tracks: pa.Table, about: _About) -> None:
    """Raise a ValueError if a plan is none that Earmark wrote: its rows and its metadata must fit each other."""
    ids, labels = tracks["track"], set(tracks["label"].unique().to_pylist())
    if not len(ids):
        raise ValueError("it has no tracks")
    if not is_ascending(one_array(ids)) and pc.count_distinct(ids).as_py() < len(ids):
        raise ValueError("it has a track twice")
    if labels - set(about.classes):
        raise ValueError("it has a label that is not one of its classes")
    # `fold_and_index` raises for other names; the fold is the Hive partition of the shard.
    fold_of_name = {name: fold_of(name) for name in tracks["shard"].unique().to_pylist()}
    pairs = tracks.group_by(["shard", "fold"]).aggregate([]).to_pylist()
    if any(fold_of_name[pair["shard"]] != pair["fold"] for pair in pairs):
        raise ValueError("it has a track whose fold is not that of its shard")
    if {pair["fold"] for pair in pairs} - (about.folds or DEFAULT_LAYOUT).numbers:
        raise ValueError("it has a fold that is none of its folds")


def has_groups(previous: PreviousPlan, grouping: str, ids: pa.Array, groups: pa.Array) -> bool:
    """Return whether a plan has these tracks in these groups, from the same source; ids are sorted, as in it."""
    track, group = (one_array(previous.tracks[name]) for name in ("track", "group"))
    return bool(previous.grouping == grouping and track.equals(ids) and group.equals(groups))


def rows_in_previous(ids: pa.Array, previous: PreviousPlan | None) -> NDArray[np.int32]:
    """Return the row of each track in the previous plan, int32 [tracks]; -1 for new tracks."""
    if previous is None:
        return np.full(len(ids), -1, np.int32)
    known = one_array(previous.tracks["track"])
    if not (is_ascending(ids) and is_ascending(known)):
        return _indices(ids, known)
    rows = np.empty(len(ids), np.int32)
    for begin in range(0, len(ids), ROWS_AT_ONCE):
        part = ids.slice(begin, ROWS_AT_ONCE)
        first, stop = _position(known, part[0]), _position(known, part[-1]) + 1
        found = _indices(part, known.slice(first, stop - first))
        rows[begin : begin + len(part)] = np.where(found >= 0, found + first, -1)
    return rows


def previous_places(previous: PreviousPlan) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the fold of each track, and the index of its shard in the fold, both int32 [tracks]."""
    shard = one_array(previous.tracks["shard"])
    by_name = (
        np.array([fold_and_index(name) for name in shard.dictionary.to_pylist()], np.int64)
        .reshape(-1, 2)
        .astype(np.int32)
    )
    rows = shard.indices.to_numpy()
    return by_name[rows, 0], by_name[rows, 1]


def _indices(ids: pa.Array, known: pa.Array) -> NDArray[np.int32]:
    rows = pc.fill_null(pc.index_in(ids, value_set=known), -1)
    return np.asarray(rows.to_numpy(zero_copy_only=False), np.int32)


def _position(ids: pa.Array, track: pa.StringScalar) -> int:
    """Return the index of the first id that is not before a track, in the order of their bytes."""
    wanted = track.as_py().encode()
    return bisect.bisect_left(range(len(ids)), wanted, key=lambda row: ids[row].as_py().encode())
