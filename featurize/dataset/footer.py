"""The footer of a shard: what the shard was made from, which tracks it has, and sums over its features."""

import json
from typing import Any

import pyarrow.parquet as pq
from pydantic import ValidationError

from featurize.dataset.info import StoredModel, describe_invalid
from featurize.dataset.reader import UNREADABLE
from featurize.dataset.schema import FOOTER_KEY
from featurize.storage import StoragePath


class KeptTracks(StoredModel):
    """The tracks that have rows, in the order of their rows; the three lists are equally long.

    Attributes:
        track: Ids.
        size: Sizes of the files in bytes.
        digest: `shard_writer.digest` of the rows of each track.
    """

    track: list[str]
    size: list[int]
    digest: list[str]


class RejectedTrack(StoredModel):
    """A track without rows: its id, and the stage, the reason and the message of its `Reject`."""

    path: str
    stage: str
    reason: str
    message: str


class FeatureSums(StoredModel):
    """Sums over all frames of a shard.

    Attributes:
        frames: Number of frames.
        sum: Sum of each coefficient.
        sum_of_squares: Sum of the squares of each coefficient.
    """

    frames: int
    sum: list[float]
    sum_of_squares: list[float]


class ShardFooter(StoredModel):
    """The footer of a shard.

    Attributes:
        settings: Feature settings as stored: a shard of another version of Earmark may have other keys.
        tracks: Tracks with rows.
        rejects: Tracks without rows.
        statistics: Sums over the rows.
    """

    settings: dict[str, Any]
    tracks: KeptTracks
    rejects: list[RejectedTrack]
    statistics: FeatureSums

    def to_metadata(self) -> dict[bytes, str]:
        """Return the key-value metadata of the Parquet file."""
        return {FOOTER_KEY: json.dumps(self.model_dump(), sort_keys=True)}


def parse_footer(metadata: pq.FileMetaData) -> ShardFooter:
    """Return the footer of a shard whose metadata is read.

    Raises:
        KeyError, TypeError, ValueError: There is no footer, or it is not as `ShardFooter.to_metadata` writes it;
            UNREADABLE has them all.
    """
    try:
        return ShardFooter.model_validate(json.loads(metadata.metadata[FOOTER_KEY]))
    except ValidationError as error:
        raise ValueError(f"its footer: {describe_invalid(error)}") from error


def read_footer(folder: StoragePath, name: str) -> ShardFooter | None:
    """Return the footer of a shard of a dataset folder, None where it cannot be read; only the end is read."""
    path = folder / "shards" / name
    try:
        return parse_footer(pq.read_metadata(path.path, **path.arrow))
    except UNREADABLE:
        return None


def read_rejects(folder: StoragePath, name: str) -> list[RejectedTrack] | None:
    """Return the tracks that a shard rejects, None where the shard cannot be read."""
    footer = read_footer(folder, name)
    return None if footer is None else footer.rejects
