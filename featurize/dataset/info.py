"""Content of `dataset.json`."""

import json
import reprlib
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from featurize.dataset.advice import how_to_featurize
from featurize.dataset.feature_settings import FeatureSettings
from featurize.dataset.json_text import read_json
from featurize.dataset.schema import FOLD_NUMBERS, FOLDS, FORMAT_VERSION, MAX_FOLDS
from featurize.dataset.stored_model import StoredModel, describe_invalid
from featurize.errors import DatasetError
from featurize.storage import StoragePath, describe

Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Fold = Annotated[int, Field(ge=0, lt=FOLD_NUMBERS)]
TrainingFold = Annotated[int, Field(ge=0, lt=MAX_FOLDS)]
# float32 sums of squares of larger values would overflow; MFCC are below 10,000 dB.
Decibels = Annotated[float, Field(ge=-1e6, le=1e6)]
PerFeature = Annotated[list[Decibels], Field(min_length=1, max_length=3 * 1024)]


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
