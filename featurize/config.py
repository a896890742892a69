"""Settings of the `featurize` section: features, segments, excerpts, grouping, rejects and shards."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from featurize.feature_rules import (
    Deltas,
    FftSize,
    Frequency,
    HopLength,
    Kind,
    MelBands,
    SampleRate,
    Store,
    TopDb,
    frame_count,
    impossible,
)

_DAY = 86_400  # seconds
_LONGEST_TRACK = 1_000_000  # seconds, eleven days

# A worker holds the features of eight tracks: 0.3 GB for a thousand segments each.
SegmentsPerTrack = Annotated[int, Field(strict=True, ge=1, le=1000)]
# A worker holds the compressed features of one shard.
TracksPerShard = Annotated[int, Field(strict=True, ge=1, le=10_000)]
ExcerptSeconds = Annotated[float, Field(gt=0, le=_LONGEST_TRACK)]
SegmentFrames = Annotated[int, Field(strict=True, ge=1, le=100_000)]
SegmentSeconds = Annotated[float, Field(gt=0, le=3600)]


class FeaturizeConfig(BaseModel):
    """Settings of featurizing. Settings that affect the features also change the names of the shards."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    kind: Kind = Field("mfcc", description="features: mfcc, or log_mel (mel spectrogram in dB)")
    sample_rate: SampleRate = Field(22050, description="rate that tracks are resampled to, in Hz")
    n_fft: FftSize = Field(2048, description="samples per frame, an even number")
    hop_length: HopLength = Field(512, description="samples between successive frames, at most n_fft")
    n_mels: MelBands = Field(128, description="number of mel bands")
    n_mfcc: MelBands = Field(40, description="number of MFCC, at most n_mels; has no effect on log_mel")
    f_min: Frequency = Field(0, description="lower edge of the first mel band, in Hz")
    f_max: Frequency | None = Field(
        None, description="upper edge of the last mel band, in Hz; null: half of sample_rate"
    )
    top_db: TopDb = Field(
        80, description="dynamic range of a segment: lower values are raised to this far below its loudest, in dB"
    )
    deltas: Deltas = Field(
        0, description="number of derivatives over time that follow the features: 0, 1 or 2 (each 9 frames wide)"
    )
    segment_frames: SegmentFrames = Field(
        217,
        description="frames per segment, which has (segment_frames - 1) x hop_length samples; not used if "
        "segment_seconds is set",
    )
    segment_seconds: SegmentSeconds | None = Field(
        None,
        description="length of a segment in seconds, instead of segment_frames; it has 1 + seconds x sample_rate "
        "/ hop_length frames, rounded down",
    )
    store: Store = Field(
        "float32",
        description="type of the stored features: float32, or float16 (two bytes a value, rounded to 3 digits)",
    )
    segments_per_track: SegmentsPerTrack = Field(
        12, description="segments per track, evenly spaced; they overlap if the track is too short"
    )
    excerpt_seconds: ExcerptSeconds | None = Field(
        None,
        description="length of the excerpt read from each track, in seconds, at least that of a segment; null: "
        "the whole track",
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
        description="maximum number of tracks per Parquet file; auto: 64, beyond 20,000 tracks 128 and beyond a "
        "million 256, and fewer where files are very large (an interrupted run computes unfinished files again)",
    )
    track_timeout: float = Field(
        120, gt=0, le=_DAY, description="time limit per track, in seconds; slower tracks are rejected as timed out"
    )

    @property
    def segment_samples(self) -> int:
        """Samples per segment."""
        if self.segment_seconds is not None:
            return round(self.segment_seconds * self.sample_rate)
        return (self.segment_frames - 1) * self.hop_length

    @model_validator(mode="after")
    def _check_features(self) -> "FeaturizeConfig":
        samples = self.segment_samples
        problems = impossible(
            kind=self.kind,
            sample_rate=self.sample_rate,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            n_mels=self.n_mels,
            n_mfcc=self.n_mfcc,
            f_min=self.f_min,
            f_max=self.f_max,
            deltas=self.deltas,
            segment_samples=samples,
            segments_per_track=self.segments_per_track,
            excerpt_seconds=self.excerpt_seconds,
        )
        frames = frame_count(samples, self.hop_length)
        default = type(self).model_fields["segment_frames"].default
        if self.segment_seconds is not None and self.segment_frames not in (default, frames):
            problems.append(
                f"segment_frames = {self.segment_frames} and segment_seconds = {self.segment_seconds:g}, which "
                f"has {frames} frames: set one of them"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self
