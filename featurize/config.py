"""The `featurize` section of the config: which segments are cut and how tracks are grouped."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(strict=True, ge=1)]
# An excerpt must hold one segment of 110,592 samples at 22,050 Hz.
ExcerptSeconds = Annotated[float, Field(ge=5.02)]


class FeaturizeConfig(BaseModel):
    """How a collection becomes a dataset. Settings that change the numbers also change the shards' names."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    segments_per_track: PositiveInt = Field(
        12, description="segments of 5.0155 s cut from each track, evenly spread, overlapping where they must"
    )
    excerpt_seconds: ExcerptSeconds | None = Field(
        None, description="part of each track that is read, in seconds (5.02 or more); null for all of it"
    )
    excerpt_position: Literal["start", "middle"] = Field(
        "start", description="where that part lies: start or middle"
    )
    max_seconds: float = Field(
        14400, gt=0, description="tracks longer than this are rejected, unless an excerpt is read"
    )
    group_by: Literal["artist", "album", "none"] = Field(
        "artist",
        description="tag whose value keeps tracks together on one side of every split: artist, album or none "
        "(a table's own group column comes first; a track without the tag is its own group)",
    )
    max_reject_fraction: float = Field(
        0.1, ge=0, le=1, description="share of tracks that may be unusable before the run counts as failed"
    )
    tracks_per_shard: PositiveInt = Field(
        64, description="tracks in one Parquet file: the unit of work, and of what an interruption can cost"
    )
    track_timeout: float = Field(
        120, gt=0, description="seconds that one track may take before it is rejected as timed out"
    )
