"""The content of `dataset.json`, and the feature settings that a dataset and each model are stored with."""

import json
import reprlib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from featurize.dataset.schema import FORMAT_VERSION
from featurize.errors import DatasetError
from featurize.storage import StoragePath, describe

_PROBLEMS_SHOWN = 5


class StoredModel(BaseModel):
    """Base of what is stored as JSON: every key is there, no other one is, and each value has its exact type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FeatureSettings(StoredModel):
    """Every setting that changes the features. The order of the fields is that of the keys in JSON files.

    Attributes:
        sample_rate: Hz.
        n_mfcc: Coefficients of each frame.
        n_fft: Samples of each frame.
        hop_length: Samples from one frame to the next.
        n_mels: Mel bands.
        top_db: Dynamic range of a segment, in dB below its loudest mel band.
        segment_samples: Samples of each segment.
        segments_per_track: Segments, and so rows, of each track.
        excerpt_seconds: Part of each track that is read, in seconds; None for all of it.
        excerpt_position: Where that part lies in the track.
        max_seconds: Longest track that is read whole, in seconds.
    """

    sample_rate: int
    n_mfcc: int
    n_fft: int
    hop_length: int
    n_mels: int
    top_db: float
    segment_samples: int
    segments_per_track: int
    excerpt_seconds: float | None
    excerpt_position: Literal["start", "middle"]
    max_seconds: float


class RejectCount(StoredModel):
    """How many tracks were rejected at one stage for one reason."""

    stage: str
    reason: str
    tracks: int


class ClassFoldCount(StoredModel):
    """How many tracks, groups and segments of one class one fold has, rejects left out."""

    label: str
    fold: int
    tracks: int
    groups: int
    segments: int


class FoldStatistics(StoredModel):
    """The mean and the standard deviation of each coefficient over all frames of one fold, in dB."""

    fold: int
    frames: int
    mean: list[float]
    deviation: list[float]


class DatasetInfo(StoredModel):
    """The content of `dataset.json`. The order of the fields is that of the keys in the file.

    Attributes:
        format: FORMAT_VERSION of the Earmark that wrote it.
        id: Fingerprint of the dataset; another collection or other settings have another one.
        plan: Fingerprint of the plan.
        classes: Class names; a row's `label` is an index into them.
        settings: Feature settings.
        tracks: Number of tracks, rejects included.
        segments: Number of rows.
        rejects: Counts of the tracks without rows, the most frequent reason first.
        duplicates: Number of tracks that share their rows to the bit with another one.
        counts: Counts for each class and fold that has tracks.
        statistics: Statistics of each fold that has tracks.
        versions: Version of each library that the features depend on.
    """

    format: int
    id: str
    plan: str
    classes: list[str]
    settings: FeatureSettings
    tracks: int
    segments: int
    rejects: list[RejectCount]
    duplicates: int
    counts: list[ClassFoldCount]
    statistics: list[FoldStatistics]
    versions: dict[str, str]

    def encode(self) -> bytes:
        """Return the content of the file."""
        return json.dumps(self.model_dump(), indent=2, ensure_ascii=False).encode() + b"\n"


def read_info(folder: StoragePath) -> DatasetInfo | None:
    """Return the content of `dataset.json`, None where there is none.

    Raises:
        DatasetError: The file cannot be read, is of another format, or has missing, unknown or invalid keys.
    """
    path = folder / "dataset.json"
    try:
        info = json.loads(path.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {describe(error)}.") from error
    except ValueError as error:
        raise DatasetError(f"{path} is not JSON: {error}. Featurize again.") from error
    found_version = info.get("format") if isinstance(info, dict) else None
    if found_version != FORMAT_VERSION:
        raise DatasetError(
            f"{folder} has format {found_version}; this Earmark reads {FORMAT_VERSION}. Featurize again."
        )
    try:
        return DatasetInfo.model_validate(info)
    except ValidationError as error:
        raise DatasetError(
            f"{path} is not as Earmark writes it: {describe_invalid(error)}. "
            f"Type: earmark featurize MUSIC --out {folder}"
        ) from error


def describe_invalid(error: ValidationError) -> str:
    """Name the first invalid keys of stored JSON, as in `counts.0.label`, with what was found there."""
    problems = error.errors(include_url=False)
    more = [f"and {len(problems) - _PROBLEMS_SHOWN} more"] if len(problems) > _PROBLEMS_SHOWN else []
    return "; ".join([*map(_describe_problem, problems[:_PROBLEMS_SHOWN]), *more])


def _describe_problem(problem: Any) -> str:
    key = ".".join(map(str, problem["loc"])) or "the content"
    if problem["type"] == "missing":
        return f"{key} is missing"
    if problem["type"] == "extra_forbidden":
        return f"{key} is not a known key"
    message = problem["msg"].removeprefix("Input should be ")
    return f"{key} is {reprlib.repr(problem['input'])}, expected {message}"
