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
from featurize.dataset.schema import FOLD_NUMBERS, FOLDS, FORMAT_VERSION, MAX_FOLDS, MFCC_SHAPE
from featurize.display import one_line
from featurize.errors import DatasetError
from featurize.storage import StoragePath, describe

_PROBLEMS_SHOWN = 5

Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Fold = Annotated[int, Field(ge=0, lt=FOLD_NUMBERS)]
TrainingFold = Annotated[int, Field(ge=0, lt=MAX_FOLDS)]
# float32 sums of squares of larger values would overflow; MFCC are below 10,000 dB.
Decibels = Annotated[float, Field(ge=-1e6, le=1e6)]
PerCoefficient = Annotated[list[Decibels], Field(min_length=MFCC_SHAPE[0], max_length=MFCC_SHAPE[0])]


class StoredModel(BaseModel):
    """Base class of records stored as JSON: no missing keys, no extra keys, no type conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class FeatureSettings(StoredModel):
    """All settings that affect the features. The order of the fields is the order of the keys in JSON files.

    Attributes:
        sample_rate: Hz.
        n_mfcc: Coefficients per frame.
        n_fft: Samples per frame.
        hop_length: Samples between successive frames.
        n_mels: Number of mel bands.
        top_db: Dynamic range of a segment, in dB below its loudest mel band.
        segment_samples: Samples per segment.
        segments_per_track: Segments, and therefore rows, per track.
        excerpt_seconds: Length of the excerpt read from each track, in seconds; None for the whole track.
        excerpt_position: Position of the excerpt in the track.
        max_seconds: Maximum length of a track, in seconds; does not apply to excerpts.
        channels: What is read of several channels. Stored only if it is not the mean, so that datasets from before
            there was this setting keep their settings, and with them the names of their shards.
    """

    sample_rate: Count
    n_mfcc: Count
    n_fft: Count
    hop_length: Count
    n_mels: Count
    top_db: float
    segment_samples: Count
    segments_per_track: Annotated[int, Field(ge=1, le=1 << 20)]
    excerpt_seconds: Annotated[float, Field(gt=0)] | None
    excerpt_position: Literal["start", "middle"]
    max_seconds: Annotated[float, Field(gt=0)]
    channels: Literal["mean", "left", "right"] = "mean"

    @model_serializer(mode="wrap")
    def _without_default(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        stored: dict[str, Any] = serialize(self)
        if self.channels == "mean":
            del stored["channels"]
        return stored


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
    """Mean and standard deviation of each coefficient over all frames of one fold, in dB."""

    fold: Fold
    frames: Annotated[int, Field(ge=1, lt=1 << 53)]
    mean: PerCoefficient
    deviation: Annotated[list[Annotated[float, Field(ge=0, le=1e6)]], PerCoefficient.__metadata__[0]]


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
