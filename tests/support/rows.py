"""Shards of random rows, without audio."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from featurize.audio.mfcc import segment_starts
from featurize.config import FeaturizeConfig
from featurize.dataset.reader import Shard
from featurize.dataset.schema import shard_name
from featurize.dataset_build.shard_writer import ShardWriter
from featurize.planning.shard_plan import ShardPlan, Track, feature_settings
from featurize.storage import StoragePath


def write_shards(folder: Path, tracks_of: Sequence[int], segments: int) -> tuple[list[Shard], list[str]]:
    """Write a shard for each number of tracks; return the shards and the track of each of their rows."""
    settings = feature_settings(FeaturizeConfig(segments_per_track=segments))
    starts = segment_starts(6 * 22050, settings) / 22050
    random = np.random.default_rng(0)
    shards, tracks = [], []
    for index, count in enumerate(tracks_of):
        name = shard_name(0, index, "0" * 16)
        writer = ShardWriter(ShardPlan(name, StoragePath.of(folder), [], settings))
        for number in range(count):
            tracks += [f"{index}/{number}"] * segments
            mfcc = random.standard_normal((segments, *settings.shape), np.float32)
            writer.add(Track(f"{index}/{number}", "", int(random.integers(3)), 0), mfcc, starts)
        writer.finish(StoragePath.of(folder))
        path = StoragePath.of(folder) / "shards" / name
        metadata = pq.read_metadata(path.path)
        sizes = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
        shards.append(
            Shard(name, path, 0, sizes, size=(folder / "shards" / name).stat().st_size, format=settings.format)
        )
    return shards, tracks
