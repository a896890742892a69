"""Which tracks each shard of answers has. The workers that featurize import this module, so it imports little."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featurize.collection.catalog import stored_path
from featurize.collection.unlabeled import Unlabeled
from featurize.column_file import one_array
from featurize.dataset.dataset import Dataset
from featurize.dataset.feature_settings import FeatureSettings
from featurize.planning.shard_plan import ShardPlan, Track
from featurize.planning.shard_size import SMALLEST, cut
from train.answers.shard import shard_name

# Features of a shard wait in Ray's object store until they are predicted.
FEATURE_BYTES = 32 << 20


@dataclasses.dataclass(frozen=True)
class AnswerPlan(ShardPlan):
    """Plan of one shard of answers.

    Attributes:
        carried: Values of each carried column for the tracks, in their order.
    """

    carried: Mapping[str, list[str | None]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class MusicPlan:
    """A collection without labels, divided into shards of answers.

    Attributes:
        found: The collection; the tracks of a shard are consecutive rows.
        settings: Feature settings.
        names: Names of the shards.
        bounds: int64 [shards + 1]; the tracks of `names[i]` are the rows [bounds[i], bounds[i + 1]).
    """

    found: Unlabeled
    settings: FeatureSettings
    names: list[str]
    bounds: NDArray[np.int64]

    @property
    def tracks(self) -> dict[str, int]:
        """Number of tracks of each shard."""
        return dict(zip(self.names, np.diff(self.bounds).tolist(), strict=True))

    def shard(self, position: int) -> AnswerPlan:
        """Return the plan of the shard `names[position]`."""
        first, stop = self.bounds[position : position + 2]
        rows = self.found.tracks.slice(first, stop - first).to_pylist()
        tracks = [Track(row["track"], stored_path(row["track"], row["path"]), -1, row["size"]) for row in rows]
        carried = self.found.carried.slice(first, stop - first).to_pydict()
        unreachable = self.found.unreachable
        return AnswerPlan(
            self.names[position],
            self.found.root,
            tracks,
            self.settings,
            unreachable=unreachable,
            carried=carried,
        )


def plan_music(
    found: Unlabeled, settings: FeatureSettings, about: Mapping[str, Any], tracks_per_shard: int | None
) -> MusicPlan:
    """Divide a collection into shards; a function of the arguments.

    Args:
        found: The collection.
        settings: Feature settings.
        about: What else the answers depend on, for the names of the shards: the model, for example.
        tracks_per_shard: Maximum number of tracks of a shard; None for 64, and fewer where the features of so many
            take more than 32 MiB or their files are very large.
    """
    sizes = one_array(found.tracks["size"]).to_numpy()
    features, frames = settings.shape
    track_bytes = 4 * features * frames * settings.segments_per_track
    most = tracks_per_shard or max(min(SMALLEST, FEATURE_BYTES // track_bytes), 1)
    number = cut(sizes, most, by_bytes=tracks_per_shard is None)
    bounds = np.concatenate([[0], np.flatnonzero(np.diff(number)) + 1, [len(sizes)]])
    key = {**about, "settings": settings.model_dump(), "columns": found.carried.column_names}
    names = []
    for index, (first, stop) in enumerate(itertools.pairwise(bounds.tolist())):
        rows = found.tracks.select(["track", "size"]).slice(first, stop - first).to_pydict()
        carried = found.carried.slice(first, stop - first).to_pydict()
        names.append(shard_name(index, fingerprint([key, rows, carried])))
    return MusicPlan(found, settings, names, bounds)


def plan_dataset(dataset: Dataset, about: Mapping[str, Any]) -> dict[str, int]:
    """Return the names of the shards of answers for those of a dataset, in order, with their numbers of tracks."""
    counts = pc.value_counts(dataset.tracks()["shard"].combine_chunks().cast(pa.string())).to_pylist()
    tracks = {count["values"]: count["counts"] for count in counts}
    return {
        shard_name(index, fingerprint([dict(about), dataset.id, shard.name])): tracks[shard.name]
        for index, shard in enumerate(dataset.shards)
    }


def fingerprint(content: Sequence[Any]) -> str:
    """Return 16 hexadecimal digits that identify some content of JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
