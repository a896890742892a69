"""Types of the train settings: what one value may be, and what else is declared with it."""

import dataclasses
import json
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from featurize.dataset.schema import MAX_FOLDS
from train.worker_range import MOST_WORKERS, check_workers

Fold = Annotated[int, Field(strict=True, ge=0, lt=MAX_FOLDS)]
Epochs = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
# 35 kB a segment by default: a batch takes up to 2.3 GB, and a window 150 GB, more than most machines have.
BatchSize = Annotated[int, Field(strict=True, ge=1, le=1 << 16)]
WindowSize = Annotated[int, Field(strict=True, ge=1, le=1 << 22)]
Processes = Annotated[int, Field(strict=True, ge=1, le=MOST_WORKERS)]
Workers = Annotated[int | str, BeforeValidator(check_workers)]
SmallCount = Annotated[int, Field(strict=True, ge=1, le=1000)]
Share = Annotated[float, Field(ge=0, lt=1)]
# `train.segment_size` checks that it is less than the dataset has.
MaskWidth = Annotated[int, Field(strict=True, ge=0, le=100_000)]
LayerName = Annotated[str, Field(min_length=1, max_length=200)]
_LARGEST_SETTINGS = 100_000  # bytes of JSON


def _refuse_relative(folder: str) -> str:
    if not folder.startswith(("/", "~/")):
        raise ValueError(
            f"{folder!r} is not an absolute path of a folder; expected one on a disk of each machine that trains, "
            "such as /mnt/nvme/earmark"
        )
    return folder


def _refuse_unstorable(settings: dict[str, Any]) -> dict[str, Any]:
    """Raise a ValueError unless run.json can hold the settings and give them back unchanged."""
    try:
        text = json.dumps(settings, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"expected numbers, texts, lists and mappings only ({error})") from None
    if json.loads(text) != settings:
        raise ValueError("expected mappings whose keys are texts: put the others in quotation marks")
    if len(text) > _LARGEST_SETTINGS:
        raise ValueError(f"expected at most {_LARGEST_SETTINGS:,} characters")
    return settings


CacheFolder = Annotated[str, AfterValidator(_refuse_relative)]
ModelSettings = Annotated[dict[str, Any], AfterValidator(_refuse_unstorable)]


@dataclasses.dataclass(frozen=True)
class MayChange:
    """Marks a setting that may change when a run resumes, because it does not affect finished steps.

    Attributes:
        unless: Name and value of another setting; if it has that value, this setting may not change. None if it
            always may.
    """

    unless: tuple[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class NotCompared:
    """Marks a setting that `earmark compare` does not show, because it affects no score."""
