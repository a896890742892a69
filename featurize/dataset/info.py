"""Content of `dataset.json`, and the feature settings stored with every dataset and model."""

import json
import reprlib
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from featurize.dataset.advice import how_to_featurize
from featurize.dataset.json_text import read_json
from featurize.dataset.schema import FOLD_NUMBERS, FOLDS, FORMAT_VERSION, MAX_FOLDS, SegmentFormat
from featurize.display import one_line
from featurize.errors import DatasetError
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
from featurize.storage import StoragePath, describe

_PROBLEMS_SHOWN = 5

Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Fold = Annotated[int, Field(ge=0, lt=FOLD_NUMBERS)]
TrainingFold = Annotated[int, Field(ge=0, lt=MAX_FOLDS)]
# float32 sums of squares of larger values would overflow; MFCC are below 10,000 dB.
Decibels = Annotated[float, Field(ge=-1e6, le=1e6)]
PerFeature = Annotated[list[Decibels], Field(min_length=1, max_length=3 * 1024)]


class StoredModel(BaseModel):
    """Base class of records stored as JSON: no missing keys, no extra keys, no type conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


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


class FoldLayout(StoredModel):
    """What the folds of a dataset are for.

    Attributes:
        training: Numbers of the folds that may be trained on, ascending; a cross-validation tests on each of them.
        validation: Number of the fold that is the official validation split; None if the collection has none.
        test: Number of the fold that is the official test split; None if the collection has none.
    """

    training: Annotated[list[TrainingFold], Field(min_length=1, max_length=MAX_FOLDS)]
    validation: Fold | None = None
    test: Fold | None = None

    @model_validator(mode="after")
    def _check_numbers(self) -> "FoldLayout":
        if self.training != sorted(set(self.training)):
            raise ValueError("the training folds are not in ascending order")
        if len(self.numbers) < len(self.training) + len(self.official):
            raise ValueError("a fold has two purposes")
        if self.test is None and len(self.training) < 2:
            raise ValueError("there is one fold, so none to test on")
        return self

    @property
    def official(self) -> dict[str, int]:
        """Folds of the official splits: `validation` and `test`, those that the collection has."""
        splits = {"validation": self.validation, "test": self.test}
        return {part: fold for part, fold in splits.items() if fold is not None}

    @property
    def numbers(self) -> set[int]:
        """Numbers of all folds."""
        return {*self.training, *self.official.values()}

    def name_of(self, fold: int) -> str:
        """Return what a fold is called in messages and reports: `fold 3`, or `test split`."""
        return next((f"{part} split" for part, number in self.official.items() if number == fold), f"fold {fold}")


DEFAULT_LAYOUT = FoldLayout(training=list(range(FOLDS)))


class RejectCount(StoredModel):
    """Number of tracks rejected at one stage for one reason."""

    stage: str
    reason: str
    tracks: Count


class ClassFoldCount(StoredModel):
    """Numbers of tracks, groups and segments of one class in one fold, without rejects."""

    label: str
    fold: Fold
    tracks: Count
    groups: Count
    segments: Count


class FoldStatistics(StoredModel):
    """Mean and standard deviation of each feature over all frames of one fold, in dB."""

    fold: Fold
    frames: Annotated[int, Field(ge=1, lt=1 << 53)]
    mean: PerFeature
    deviation: Annotated[list[Annotated[float, Field(ge=0, le=1e6)]], PerFeature.__metadata__[0]]


class DatasetInfo(StoredModel):
    """Content of `dataset.json`. The order of the fields is the order of the keys in the file.

    Attributes:
        format: FORMAT_VERSION of the Earmark version that wrote the file.
        id: Fingerprint of the dataset; it changes with the collection and the feature settings.
        plan: Fingerprint of the plan.
        classes: Class names; the `label` of a row is an index into this list.
        settings: Feature settings.
        tracks: Number of tracks, rejects included.
        segments: Number of rows.
        rejects: Reject counts, most frequent first.
        duplicates: Number of tracks whose rows are bit-identical to those of another track.
        folds: What the folds are for; None, and no key in the file, for DEFAULT_LAYOUT. See `layout`.
        counts: Counts per class and fold; combinations without tracks are omitted.
        statistics: Statistics per fold; folds without tracks are omitted.
        versions: Versions of the libraries that affect the features.
    """

    format: int
    id: str
    plan: str
    classes: Annotated[list[str], Field(min_length=1)]
    settings: FeatureSettings
    tracks: Count
    segments: Count
    rejects: list[RejectCount]
    duplicates: Count
    folds: FoldLayout | None = None
    counts: list[ClassFoldCount]
    statistics: list[FoldStatistics]
    versions: dict[str, str]

    @model_validator(mode="after")
    def _check_references(self) -> "DatasetInfo":
        classes, described = set(self.classes), [entry.fold for entry in self.statistics]
        if len(classes) < len(self.classes):
            raise ValueError("two classes have the same name")
        if unknown := {entry.label for entry in self.counts} - classes:
            raise ValueError(f"counts has a class that classes lacks: {reprlib.repr(min(unknown))}")
        if len(set(described)) < len(described):
            raise ValueError("statistics has a fold twice")
        lengths = {len(values) for entry in self.statistics for values in (entry.mean, entry.deviation)}
        if other := lengths - {self.settings.features}:
            raise ValueError(f"statistics has {min(other)} features, the settings have {self.settings.features}")
        if missing := {entry.fold for entry in self.counts if entry.segments} - set(described):
            raise ValueError(f"statistics lacks fold {min(missing)}, which has segments")
        folds = {entry.fold for entry in self.counts} | set(described)
        if unplanned := folds - self.layout.numbers:
            raise ValueError(f"folds lacks fold {min(unplanned)}, which has tracks")
        return self

    @property
    def layout(self) -> FoldLayout:
        """What the folds are for."""
        return self.folds or DEFAULT_LAYOUT

    def encode(self) -> bytes:
        """Return the file content, UTF-8 JSON."""
        content = self.model_dump(exclude={"folds"} if self.folds is None else None)
        return json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"


def read_info(folder: StoragePath) -> DatasetInfo | None:
    """Return the content of `dataset.json`, None if the file does not exist.

    Raises:
        DatasetError: The file cannot be read, has another format, or has missing, unknown or invalid keys.
    """
    path = folder / "dataset.json"
    try:
        info = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {describe(error)}.") from error
    except ValueError as error:
        raise DatasetError(f"{path} {error}. {how_to_featurize(folder)}") from error
    found_version = info.get("format") if isinstance(info, dict) else None
    if found_version != FORMAT_VERSION:
        raise DatasetError(
            f"{path} has format {reprlib.repr(found_version)}; this version of Earmark reads format "
            f"{FORMAT_VERSION}. Featurize again, into another folder."
        )
    try:
        return DatasetInfo.model_validate(info)
    except ValidationError as error:
        raise DatasetError(
            f"{path} is not as Earmark writes it: {describe_invalid(error)}. {how_to_featurize(folder)}"
        ) from error


def describe_invalid(error: ValidationError) -> str:
    """Describe the first invalid keys of stored JSON: the path, as in `counts.0.label`, and the value found."""
    problems = error.errors(include_url=False)
    more = [f"and {len(problems) - _PROBLEMS_SHOWN} more"] if len(problems) > _PROBLEMS_SHOWN else []
    return "; ".join([*map(_describe_problem, problems[:_PROBLEMS_SHOWN]), *more])


def _describe_problem(problem: Any) -> str:
    key = one_line(".".join(map(str, problem["loc"]))) or "the content"
    if problem["type"] == "missing":
        return f"{key} is missing"
    if problem["type"] == "extra_forbidden":
        return f"{key} is not a known key"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    message = problem["msg"].removeprefix("Input should be ").removeprefix("List should have ")
    return f"{key} is {reprlib.repr(problem['input'])}, expected {message}"
