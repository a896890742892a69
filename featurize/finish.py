"""The last step of featurizing: gather what the shards' footers say and declare the dataset complete."""

import dataclasses
import json
import platform
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile

from featurize.catalog import Catalog, Track
from featurize.dataset import (
    FORMAT_VERSION,
    REJECTS_SCHEMA,
    TRACKS_SCHEMA,
    fold_of,
    list_shards,
    read_footer,
    write_table,
    write_whole,
)
from featurize.shards import ShardPlan, dataset_id


@dataclasses.dataclass(frozen=True)
class Summary:
    """A finished dataset in figures.

    Attributes:
        tracks: in the collection, rejects included.
        segments: rows in the shards.
        rejects: how many tracks have no rows, by (stage, reason), the most frequent first.
    """

    tracks: int
    segments: int
    rejects: dict[tuple[str, str], int]

    @property
    def rejected(self) -> int:
        """The number of tracks without rows."""
        return sum(self.rejects.values())


def summarize(info: dict[str, Any]) -> Summary:
    """Read the figures out of `dataset.json`."""
    rejects = {(entry["stage"], entry["reason"]): entry["tracks"] for entry in info["rejects"]}
    return Summary(info["tracks"], info["segments"], rejects)


def finish(folder: Path, catalog: Catalog, plans: Sequence[ShardPlan]) -> Summary:
    """Write `tracks.parquet`, `rejects.parquet` and, last of all, `dataset.json`.

    Shards that are not in the plan belong to other settings or to tracks that are gone; they are removed, so
    that a folder never holds a mixture. What is written depends on the plan alone, not on who made the shards
    or when.
    """
    names = {plan.name for plan in plans}
    for stale in list_shards(folder) - names:
        (folder / "shards" / stale).unlink(missing_ok=True)
    footers = {plan.name: read_footer(folder / "shards" / plan.name) for plan in plans}
    rejects = [reject for plan in plans for reject in footers[plan.name]["rejects"]]
    rejects.sort(key=lambda reject: reject["path"])
    write_table(folder / "rejects.parquet", pa.Table.from_pylist(rejects, schema=REJECTS_SCHEMA))
    write_table(folder / "tracks.parquet", _tracks_table(plans))

    reasons = Counter((reject["stage"], reject["reason"]) for reject in rejects)
    segments = plans[0].settings["segments_per_track"]
    info = {
        "format": FORMAT_VERSION,
        "id": dataset_id(sorted(names)),
        "classes": catalog.classes,
        "settings": plans[0].settings,
        "tracks": len(catalog.tracks),
        "segments": (len(catalog.tracks) - len(rejects)) * segments,
        "rejects": [
            {"stage": stage, "reason": reason, "tracks": count}
            for (stage, reason), count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
        ],
        "counts": _counts(catalog, {reject["path"] for reject in rejects}, segments),
        "statistics": _statistics(footers),
        "versions": _versions(),
    }
    write_whole(folder / "dataset.json", json.dumps(info, indent=2, ensure_ascii=False).encode() + b"\n")
    return summarize(info)


def _tracks_table(plans: Sequence[ShardPlan]) -> pa.Table:
    rows = sorted((t.id, t.label, t.group, t.fold, plan.name) for plan in plans for t in plan.tracks)
    columns = list(zip(*rows, strict=True))
    return pa.Table.from_arrays(
        [
            *(pa.array(column, pa.string()) for column in columns[:3]),
            pa.array(columns[3], pa.int32()),
            pa.array(columns[4], pa.string()).dictionary_encode(),
        ],
        schema=TRACKS_SCHEMA,
    )


def _counts(catalog: Catalog, rejected: set[str], segments: int) -> list[dict[str, Any]]:
    """Count tracks, groups and segments of each class in each fold, rejects left out."""
    members: dict[tuple[str, int], list[Track]] = {}
    for track in catalog.tracks:
        if track.id not in rejected:
            members.setdefault((track.label, track.fold), []).append(track)
    return [
        {
            "label": label,
            "fold": fold,
            "tracks": len(tracks),
            "groups": len({track.group for track in tracks}),
            "segments": len(tracks) * segments,
        }
        for (label, fold), tracks in sorted(members.items())
    ]


def _statistics(footers: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the mean and the standard deviation of each coefficient, fold by fold.

    By fold, so that a trainer can combine those of its training folds and never look at the others.
    """
    by_fold: dict[int, list[Any]] = {}
    for name in sorted(footers):
        by_fold.setdefault(fold_of(name), []).append(footers[name]["statistics"])
    statistics = []
    for fold, parts in sorted(by_fold.items()):
        frames = sum(part["frames"] for part in parts)
        if not frames:
            continue
        mean = np.sum([part["sum"] for part in parts], axis=0) / frames
        variance = np.sum([part["sum_of_squares"] for part in parts], axis=0) / frames - mean**2
        deviation = np.sqrt(np.maximum(variance, 0))
        statistics.append({"fold": fold, "frames": frames, "mean": mean.tolist(), "deviation": deviation.tolist()})
    return statistics


def _versions() -> dict[str, str]:
    packages = ("earmark", "librosa", "numpy", "scipy", "soundfile", "soxr", "pyarrow")
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "libsndfile": soundfile.__libsndfile_version__,
    }
