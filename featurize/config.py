"""Settings of the `featurize` section: segments, excerpts, grouping, rejects and shards."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

_DAY = 86_400  # seconds
_LONGEST_TRACK = 1_000_000  # seconds, eleven days

# A worker holds the features of eight tracks: 0.3 GB for a thousand segments each.
SegmentsPerTrack = Annotated[int, Field(strict=True, ge=1, le=1000)]
# A worker holds the compressed features of one shard.
TracksPerShard = Annotated[int, Field(strict=True, ge=1, le=10_000)]
# An excerpt must contain one segment: 110,592 samples at 22,050 Hz.
ExcerptSeconds = Annotated[float, Field(ge=5.02, le=_LONGEST_TRACK)]


class FeaturizeConfig(BaseModel):
    """Settings of featurizing. Settings that affect the features also change the names of the shards."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    segments_per_track: SegmentsPerTrack = Field(
        12, description="segments of 5.0155 s per track, evenly spaced; they overlap if the track is too short"
    )
    excerpt_seconds: ExcerptSeconds | None = Field(
        None,
        description="length of the excerpt read from each track, in seconds (5.02 or more); null: the whole track",
    )
    excerpt_position: Literal["start", "middle"] = Field(
        "start", description="position of the excerpt in the track: start or middle"
    )
    channels: Literal["mean", "left", "right"] = Field(
        "mean",
        description="what is read of a track with several channels: mean (of all), left (the first) or right (the "
        "second)",
    )
    max_seconds: float = Field(
        14400,
        gt=0,
        le=_LONGEST_TRACK,
        description="maximum length of a track, in seconds; longer tracks are rejected, unless an excerpt is read",
    )
    group_by: Literal["artist", "album", "none"] = Field(
        "artist",
        description="tag by which tracks are grouped; a group is never split across folds: artist, album or none "
        "(a group column of a table takes precedence; a track without the tag is its own group)",
    )
    max_reject_fraction: float = Field(
        0.1, ge=0, le=1, description="maximum share of rejected tracks; the command fails if more are rejected"
    )
    tracks_per_shard: TracksPerShard | Literal["auto"] = Field(
        "auto",
        description="maximum number of tracks per Parquet file; auto: 64, beyond 100,000 tracks 128 and beyond a "
        "million 256, and fewer where files are very large (an interrupted run computes unfinished files again)",
    )
    track_timeout: float = Field(
        120, gt=0, le=_DAY, description="time limit per track, in seconds; slower tracks are rejected as timed out"
    )
