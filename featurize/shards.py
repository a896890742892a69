"""How a catalog is cut into shards, and the fingerprints that let a file's name say what is in it."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from featurize.catalog import Catalog, Track
from featurize.config import FeaturizeConfig
from featurize.dataset import FORMAT_VERSION, shard_name
from featurize.mfcc import HOP_LENGTH, N_FFT, N_MELS, N_MFCC, SAMPLE_RATE, SEGMENT_SAMPLES, TOP_DB


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """One piece of work: everything that a worker needs to make one shard.

    Attributes:
        name: the shard's name below `shards/`, which holds the fingerprint of all the rest.
        tracks: in the order of their rows.
        labels: the class index of each track.
        settings: from `feature_settings`.
    """

    name: str
    tracks: list[Track]
    labels: list[int]
    settings: dict[str, Any]


def feature_settings(config: FeaturizeConfig) -> dict[str, Any]:
    """Return every setting that changes the numbers; stored with the dataset and with each model."""
    return {
        "sample_rate": SAMPLE_RATE,
        "n_mfcc": N_MFCC,
        "n_fft": N_FFT,
        "hop_length": HOP_LENGTH,
        "n_mels": N_MELS,
        "top_db": TOP_DB,
        "segment_samples": SEGMENT_SAMPLES,
        "segments_per_track": config.segments_per_track,
    }


def plan_shards(catalog: Catalog, config: FeaturizeConfig) -> list[ShardPlan]:
    """Cut each fold into shards of at most `tracks_per_shard` tracks.

    Tracks are ordered by a hash of their ids, so that a shard mixes the classes as the fold does, and cut into
    shards of nearly equal size. The plan depends only on the catalog and the settings.
    """
    settings = feature_settings(config)
    index_of = {label: index for index, label in enumerate(catalog.classes)}
    by_fold: dict[int, list[Track]] = {}
    for track in catalog.tracks:
        by_fold.setdefault(track.fold, []).append(track)
    plans = []
    for fold, tracks in sorted(by_fold.items()):
        tracks.sort(key=lambda track: hashlib.sha256(track.id.encode()).digest())
        shards = -(-len(tracks) // config.tracks_per_shard)
        for index in range(shards):
            part = tracks[index * len(tracks) // shards : (index + 1) * len(tracks) // shards]
            labels = [index_of[track.label] for track in part]
            name = shard_name(fold, index, _fingerprint(settings, part, labels))
            plans.append(ShardPlan(name, part, labels, settings))
    return plans


def dataset_id(names: Sequence[str]) -> str:
    """Return the fingerprint of a whole dataset, which is that of its shards' names."""
    return _hash(sorted(names))


def _fingerprint(settings: dict[str, Any], tracks: list[Track], labels: list[int]) -> str:
    rows = [[t.id, t.label, label, t.group, t.size] for t, label in zip(tracks, labels, strict=True)]
    return _hash({"format": FORMAT_VERSION, "settings": settings, "tracks": rows})


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
