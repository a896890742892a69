"""The feature settings that are stored with every dataset and model."""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from featurize.dataset.schema import SegmentFormat
from featurize.dataset.stored_model import StoredModel
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
    feature_count,
    frame_count,
    impossible,
)
from featurize.mel_scale import band_edges


class FeatureSettings(StoredModel):
    """All settings that affect the features. The order of the fields is the order of the keys in JSON files.

    Attributes:
        sample_rate: Hz.
        n_mfcc: Coefficients per frame; 0 for log-mel features.
        n_fft: Samples per frame.
        hop_length: Samples between successive frames.
        n_mels: Number of mel bands.
        top_db: Dynamic range of a segment, in dB below its loudest mel band.
        segment_samples: Samples per segment.
        segments_per_track: Segments, and therefore rows, per track.
        excerpt_seconds: Length of the excerpt read from each track, in seconds; None for the whole track.
        excerpt_position: Position of the excerpt in the track.
        max_seconds: Maximum length of a track, in seconds; does not apply to excerpts.
        channels: What is read of several channels. This and all that follow are stored only if they are not the
            default, so that datasets from before there were these settings keep their settings, and with them the
            names of their shards.
        kind: Kind of the features.
        f_min: Lower edge of the first mel band, in Hz.
        f_max: Upper edge of the last mel band, in Hz; None for half of the sample rate.
        deltas: Number of derivatives over time that follow the features.
        store: Type of the stored features.
    """

    sample_rate: SampleRate
    n_mfcc: Annotated[int, Field(ge=0, le=1024)]
    n_fft: FftSize
    hop_length: HopLength
    n_mels: MelBands
    top_db: TopDb
    segment_samples: Annotated[int, Field(ge=1, lt=1 << 40)]
    segments_per_track: Annotated[int, Field(ge=1, le=1 << 20)]
    excerpt_seconds: Annotated[float, Field(gt=0)] | None
    excerpt_position: Literal["start", "middle"]
    max_seconds: Annotated[float, Field(gt=0)]
    channels: Literal["mean", "left", "right"] = "mean"
    kind: Kind = "mfcc"
    f_min: Frequency = 0.0
    f_max: Frequency | None = None
    deltas: Deltas = 0
    store: Store = "float32"

    @model_validator(mode="after")
    def _check_combination(self) -> "FeatureSettings":
        if (self.kind == "mfcc") != (self.n_mfcc > 0):
            raise ValueError(f"n_mfcc is {self.n_mfcc}, with features of the kind {self.kind}")
        unchecked = {"top_db", "excerpt_position", "max_seconds", "channels", "store"}
        fields = type(self).model_fields.keys() - unchecked
        problems = impossible(**{name: getattr(self, name) for name in fields})
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        stored: dict[str, Any] = serialize(self)
        fields = type(self).model_fields
        return {name: value for name, value in stored.items() if value != fields[name].default}

    @property
    def features(self) -> int:
        """Number of features of a frame: coefficients or mel bands, then their derivatives."""
        return feature_count(self.kind, self.n_mels, self.n_mfcc, self.deltas)

    @property
    def frames(self) -> int:
        """Number of frames of a segment."""
        return frame_count(self.segment_samples, self.hop_length)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of a segment: (features, frames)."""
        return self.features, self.frames

    @property
    def fft_type(self) -> Literal["float32", "float64"]:
        """Type in which frames are transformed, float64 (as in librosa) if frequencies are in no mel band.

        They may be far louder than those in the bands, which the rounding of float32 would then change.
        """
        return "float32" if self.f_min == 0 and self.f_max is None else "float64"

    @property
    def segment_seconds(self) -> float:
        """Length of a segment in seconds."""
        return self.segment_samples / self.sample_rate

    @property
    def format(self) -> SegmentFormat:
        """How a segment is stored in a row."""
        return SegmentFormat(self.kind, self.shape, self.deltas, self.store)

    @property
    def band_centers(self) -> list[float]:
        """Center frequency of each mel band, in Hz."""
        return band_edges(self.n_mels, self.f_min, self.f_max or self.sample_rate / 2)[1:-1]

    def describe(self) -> str:
        """Return the features in words, such as `MFCC in dB` or `MFCC in dB, then its derivative`."""
        name = "MFCC in dB" if self.kind == "mfcc" else "log-mel spectrogram in dB"
        return name + ("", ", then its derivative", ", then its first and second derivative")[self.deltas]
