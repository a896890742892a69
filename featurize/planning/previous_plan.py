"""The plan that a dataset folder was last worked on by, read back from `tracks.parquet`."""

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
    """The plan that a folder was last worked on by.

    Attributes:
        tracks: by TRACKS_SCHEMA.
        settings: Feature settings; None where another version of Earmark wrote other keys.
        classes, grouping: as in Plan.
    """

    tracks: pa.Table
    settings: FeatureSettings | None
    classes: list[str]
    grouping: str


def read_plan(folder: StoragePath) -> PreviousPlan | None:
    """Read the plan that lies in a folder; None where there is none, or one of another format."""
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
    """Return the row of each track in the previous plan, int64 [tracks], -1 where the track is new."""
    if previous is None:
        return np.full(len(ids), -1)
    found = pc.fill_null(pc.index_in(ids, value_set=previous.tracks["track"].combine_chunks()), -1)
    return np.asarray(found.to_numpy(zero_copy_only=False), np.int64)
