"""One shard's worth of work, and the fingerprint by which a file's name says what is in it."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from featurize.audio.mfcc import HOP_LENGTH, N_FFT, N_MELS, N_MFCC, SAMPLE_RATE, SEGMENT_SAMPLES, TOP_DB
from featurize.config import FeaturizeConfig
from featurize.dataset.info import FeatureSettings
from featurize.dataset.schema import FORMAT_VERSION
from featurize.storage import StoragePath


@dataclasses.dataclass(frozen=True, slots=True)
class Track:
    """One labelled audio file.

    Attributes:
        id: the path below the collection's root, with `/`; unique, and the same wherever the root lies.
        path: where the file is now, below the root or absolute.
        label: its class index.
        size: in bytes; -1 where the file is missing.
    """

    id: str
    path: str
    label: int
    size: int


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """One piece of work: everything that a worker needs to make one shard.

    Attributes:
        name: the shard's name below `shards/`, which holds the fingerprint of all the rest.
        root: where the tracks' paths begin.
        tracks: in the order of their rows.
        settings: from `feature_settings`.
        earlier: a shard that was in this one's place; what it already has is copied and not computed again.
        retry_rejects: whether tracks that the earlier shard rejects are tried again.
    """

    name: str
    root: StoragePath
    tracks: list[Track]
    settings: FeatureSettings
    previous: str | None = None
    retry_rejects: bool = False


def feature_settings(config: FeaturizeConfig) -> FeatureSettings:
    """Return every setting that changes the numbers; stored with the dataset and with each model."""
    return FeatureSettings(
        sample_rate=SAMPLE_RATE,
        n_mfcc=N_MFCC,
        n_fft=N_FFT,
        hop_length=HOP_LENGTH,
        n_mels=N_MELS,
        top_db=TOP_DB,
        segment_samples=SEGMENT_SAMPLES,
        segments_per_track=config.segments_per_track,
        excerpt_seconds=config.excerpt_seconds,
        excerpt_position=config.excerpt_position,
        max_seconds=config.max_seconds,
    )


def fingerprint(settings: FeatureSettings, rows: Sequence[Sequence[Any]]) -> str:
    """Return 16 hexadecimal digits for the format, the settings and (id, label, index, size) of each track."""
    return _hash({"format": FORMAT_VERSION, "settings": settings.model_dump(), "tracks": rows})


def plan_id(names: Sequence[str]) -> str:
    """Return the fingerprint of a plan, which is that of its shards' names."""
    return _hash(sorted(names))


def dataset_id(names: Sequence[str], rejects: Sequence[str]) -> str:
    """Return the fingerprint of a finished dataset, which changes when rejects become rows."""
    return _hash([sorted(names), sorted(rejects)])


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
