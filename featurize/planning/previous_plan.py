"""Read the plan of the previous run back from `tracks.parquet`."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import ValidationError

from featurize.dataset.info import FeatureSettings
from featurize.dataset.schema import FORMAT_VERSION
from featurize.dataset.tables import read_table
from featurize.storage import StoragePath

PLAN_KEY = b"earmark"


@dataclasses.dataclass(frozen=True)
class PreviousPlan:
    """Plan of the previous run in a dataset folder.

    Attributes:
        tracks: Table with TRACKS_SCHEMA.
        settings: Feature settings; None if another version of Earmark stored other keys.
        classes, grouping: As in `Plan`.
    """

    tracks: pa.Table
    settings: FeatureSettings | None
    classes: list[str]
    grouping: str


def read_plan(folder: StoragePath) -> PreviousPlan | None:
    """Read the plan in a folder; return None if it is missing, unreadable, or has another format."""
    path = folder / "tracks.parquet"
    if not path.is_file():
        return None
    try:
        tracks = read_table(path)
        about = json.loads(tracks.schema.metadata[PLAN_KEY])
    except (pa.ArrowException, KeyError, TypeError, ValueError):
        return None
    if about["format"] != FORMAT_VERSION:
        return None
    try:
        settings = FeatureSettings.model_validate(about["settings"])
    except ValidationError:
        settings = None
    return PreviousPlan(tracks, settings, about["classes"], about["grouping"])


def rows_in_previous(ids: pa.Array, previous: PreviousPlan | None) -> NDArray[np.int64]:
    """Return the row of each track in the previous plan, int64 [tracks]; -1 for new tracks."""
    if previous is None:
        return np.full(len(ids), -1)
    rows = pc.fill_null(pc.index_in(ids, value_set=previous.tracks["track"].combine_chunks()), -1)
    return np.asarray(rows.to_numpy(zero_copy_only=False), np.int64)
