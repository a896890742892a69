"""Plan of one shard, and the fingerprint of its content that is part of its file name."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from featurize.collection.location import locate
from featurize.config import FeaturizeConfig
from featurize.dataset.feature_settings import FeatureSettings
from featurize.dataset.info import FoldLayout
from featurize.dataset.schema import FORMAT_VERSION
from featurize.storage import StoragePath


@dataclasses.dataclass(frozen=True, slots=True)
class Track:
    """One audio file with a label.

    A track's id is `id` in code and the column `track` in tables; only stored rejects call it `path`, which the
    format requires. The id is printable text, so it may differ from the path on disk, for example if a file name
    is not UTF-8.

    Attributes:
        id: Path relative to the root of the collection, with `/` as separator; unique, and independent of the
            location of the root.
        path: Path of the file, as `locate` expects it.
        label: Class index.
        size: File size in bytes; -1 if the file is missing.
    """

    id: str
    path: str
    label: int
    size: int


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """Everything that a worker needs to write one shard.

    Attributes:
        name: Name of the shard below `shards/`, which contains the fingerprint of its tracks and settings.
        root: Root folder of the collection.
        tracks: Tracks, in row order.
        settings: Feature settings.
        previous: Names of finished shards with some of the tracks; their rows are copied, not computed again.
        retry_rejects: Whether tracks rejected in the previous shards are tried again.
        unreachable: Buckets, as URIs, that did not answer when the collection was listed.
    """

    name: str
    root: StoragePath
    tracks: list[Track]
    settings: FeatureSettings
    previous: tuple[str, ...] = ()
    retry_rejects: bool = False
    unreachable: frozenset[str] = frozenset()

    def locate(self, track: Track) -> StoragePath:
        """Return the file of a track.

        Raises:
            Reject: It must not be opened, or its bucket cannot be reached.
        """
        return locate(self.root, track.path, self.unreachable)


def feature_settings(config: FeaturizeConfig) -> FeatureSettings:
    """Return all settings that affect the features; they are stored with the dataset and with each model.

    Settings that compute the same features are equal here.
    """
    return FeatureSettings(
        sample_rate=config.sample_rate,
        n_mfcc=config.n_mfcc if config.kind == "mfcc" else 0,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        n_mels=config.n_mels,
        top_db=config.top_db,
        segment_samples=config.segment_samples,
        segments_per_track=config.segments_per_track,
        excerpt_seconds=config.excerpt_seconds,
        excerpt_position="start" if config.excerpt_seconds is None else config.excerpt_position,
        max_seconds=config.max_seconds,
        channels=config.channels,
        kind=config.kind,
        f_min=config.f_min,
        f_max=None if config.f_max == config.sample_rate / 2 else config.f_max,
        deltas=config.deltas,
        store=config.store,
    )


def fingerprint(settings: FeatureSettings, rows: Sequence[Sequence[Any]]) -> str:
    """Return 16 hexadecimal digits that identify the content of a shard.

    Args:
        settings: Feature settings.
        rows: Id, class name, class index and size in bytes of each track.
    """
    return _hash({"format": FORMAT_VERSION, "settings": settings.model_dump(), "tracks": rows})


def plan_id(names: Sequence[str]) -> str:
    """Return the fingerprint of a plan, computed from the names of its shards."""
    return _hash(sorted(names))


def dataset_id(names: Sequence[str], rejects: Sequence[str], layout: FoldLayout) -> str:
    """Return the fingerprint of a complete dataset.

    Args:
        names: Names of the shards.
        rejects: Ids of the rejected tracks; the fingerprint changes when a retry turns rejects into rows.
        layout: What the folds are for; the fingerprint changes when a fold becomes an official split.
    """
    return _hash([sorted(names), sorted(rejects), *([layout.official] if layout.official else [])])


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
