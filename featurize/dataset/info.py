"""Content of `dataset.json`, and the feature settings stored with every dataset and model."""

import json
import reprlib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from featurize.dataset.schema import FORMAT_VERSION
from featurize.errors import DatasetError
from featurize.storage import StoragePath, describe

_PROBLEMS_SHOWN = 5


class StoredModel(BaseModel):
    """Base class of records stored as JSON: no missing keys, no extra keys, no type conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


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
    """Number of tracks rejected at one stage for one reason."""

    stage: str
    reason: str
    tracks: int


class ClassFoldCount(StoredModel):
    """Numbers of tracks, groups and segments of one class in one fold, without rejects."""

    label: str
    fold: int
    tracks: int
    groups: int
    segments: int


class FoldStatistics(StoredModel):
    """Mean and standard deviation of each coefficient over all frames of one fold, in dB."""

    fold: int
    frames: int
    mean: list[float]
    deviation: list[float]


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
        counts: Counts per class and fold; combinations without tracks are omitted.
        statistics: Statistics per fold; folds without tracks are omitted.
        versions: Versions of the libraries that affect the features.
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
        """Return the file content, UTF-8 JSON."""
        return json.dumps(self.model_dump(), indent=2, ensure_ascii=False).encode() + b"\n"


def read_info(folder: StoragePath) -> DatasetInfo | None:
    """Return the content of `dataset.json`, None if the file does not exist.

    Raises:
        DatasetError: The file cannot be read, has another format, or has missing, unknown or invalid keys.
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
            f"{folder} has format {found_version}; this version of Earmark reads format {FORMAT_VERSION}. "
            "Featurize again."
        )
    try:
        return DatasetInfo.model_validate(info)
    except ValidationError as error:
        raise DatasetError(
            f"{path} is not as Earmark writes it: {describe_invalid(error)}. "
            f"Type: earmark featurize MUSIC --out {folder}"
        ) from error


def describe_invalid(error: ValidationError) -> str:
    """Describe the first invalid keys of stored JSON: the path, as in `counts.0.label`, and the value found."""
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
