"""Footer of a shard: feature settings, tracks, rejects, and sums over the features."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any

import pyarrow.parquet as pq
from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer, model_validator

from featurize.dataset.info import Count, RejectCount
from featurize.dataset.json_text import parse_json
from featurize.dataset.reader import UNREADABLE
from featurize.dataset.schema import FOOTER_KEY
from featurize.dataset.stored_model import StoredModel, describe_invalid
from featurize.storage import StoragePath

_PER_FEATURE = Field(min_length=1, max_length=3 * 1024)


class KeptTracks(StoredModel):
    """Tracks with rows, in row order; the three lists have equal length.

    Attributes:
        track: Track ids.
        size: File sizes in bytes.
        digest: Digest of the rows of each track, from `shard_writer.digest`.
    """

    track: list[str]
    size: list[int]
    digest: list[str]

    @model_validator(mode="after")
    def _check_lengths(self) -> "KeptTracks":
        if not len(self.track) == len(self.size) == len(self.digest):
            raise ValueError("its lists of tracks, sizes and digests differ in length")
        if len(set(self.track)) < len(self.track):
            raise ValueError("it has a track twice")
        return self


class RejectedTrack(StoredModel):
    """A track without rows.

    Attributes:
        path: Track id. The key in JSON is `path`, as is the column of `rejects.parquet`.
        stage, reason, message: As in `Reject`.
        size: File size in bytes, -1 if the file was missing: a file of another size is tried again. None, and no
            key in JSON, in answers, and in shards of earlier versions.
    """

    path: str
    stage: str
    reason: str
    message: str
    size: int | None = None

    @model_serializer(mode="wrap")
    def _without_default(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        stored: dict[str, Any] = serialize(self)
        if self.size is None:
            del stored["size"]
        return stored


class TrackRemark(StoredModel):
    """What was not as expected in a track with rows: damaged packets that were skipped, a wrong header.

    Attributes:
        path: Track id.
        message: As given to `on_remark` of `featurize.audio.load.load`.
    """

    path: str
    message: str


class FeatureSums(StoredModel):
    """Sums over all frames of a shard.

    Attributes:
        frames: Number of frames.
        sum: Sum of each feature, in dB.
        sum_of_squares: Sum of squares of each feature.
    """

    frames: Count
    sum: Annotated[list[float], _PER_FEATURE]
    sum_of_squares: Annotated[list[float], _PER_FEATURE]

    @model_validator(mode="after")
    def _check_lengths(self) -> "FeatureSums":
        if len(self.sum) != len(self.sum_of_squares):
            raise ValueError("its sums and sums of squares differ in length")
        return self


class ShardFooter(StoredModel):
    """Content of the footer.

    Attributes:
        settings: Feature settings as stored; a shard written by another version of Earmark may have other keys.
        tracks: Tracks with rows.
        rejects: Tracks without rows.
        statistics: Sums over the features.
        remarks: Remarks on tracks with rows; stored only if there are any.
    """

    settings: dict[str, Any]
    tracks: KeptTracks
    rejects: list[RejectedTrack]
    statistics: FeatureSums
    remarks: list[TrackRemark] = Field(default_factory=list)

    @model_serializer(mode="wrap")
    def _without_default(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        stored: dict[str, Any] = serialize(self)
        if not self.remarks:
            del stored["remarks"]
        return stored

    def to_metadata(self) -> dict[bytes, str]:
        """Return the footer as key-value metadata of a Parquet file."""
        return {FOOTER_KEY: json.dumps(self.model_dump(), sort_keys=True)}


def parse_footer(metadata: pq.FileMetaData) -> ShardFooter:
    """Return the footer from the metadata of a shard.

    Raises:
        KeyError, TypeError, ValueError: The footer is missing or invalid. UNREADABLE includes these types.
    """
    try:
        stored = (metadata.metadata or {}).get(FOOTER_KEY)
        if stored is None:
            raise ValueError("it has no footer of Earmark")
        return ShardFooter.model_validate(parse_json(stored))
    except ValidationError as error:
        raise ValueError(f"its footer: {describe_invalid(error)}") from error


def read_footer(folder: StoragePath, name: str) -> ShardFooter | None:
    """Return the footer of a shard, None if it cannot be read. Reads only the end of the file."""
    path = folder / "shards" / name
    try:
        return parse_footer(pq.read_metadata(path.path, **path.arrow))
    except UNREADABLE:
        return None


def read_rejects(folder: StoragePath, name: str) -> list[RejectedTrack] | None:
    """Return the rejected tracks of a shard, None if the shard cannot be read."""
    footer = read_footer(folder, name)
    return None if footer is None else footer.rejects


def count_rejects(rejects: Iterable[RejectedTrack]) -> list[RejectCount]:
    """Count rejects by stage and reason, most frequent first."""
    reasons = Counter((reject.stage, reject.reason) for reject in rejects)
    return [
        RejectCount(stage=stage, reason=reason, tracks=count)
        for (stage, reason), count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    ]
