"""Synthetic rows for the training benchmarks: smooth noise that compresses about as well as real features."""

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import scipy.signal
import tensorflow as tf

from featurize.audio.mfcc import segment_starts
from featurize.config import FeaturizeConfig
from featurize.dataset.reader import Shard, list_shards
from featurize.dataset.schema import fold_of, shard_name
from featurize.dataset_build.shard_writer import ShardWriter
from featurize.planning.shard_plan import ShardPlan, Track, feature_settings
from featurize.planning.shard_size import SMALLEST
from featurize.storage import StoragePath

SETTINGS = feature_settings(FeaturizeConfig())
TRACKS_PER_SHARD = SMALLEST
TRACK_SECONDS = 17  # segments overlap so much that shards are a quarter of the raw floats, as real ones are
CLASSES = 10


def compose(folder: Path, segments: int) -> None:
    """Write the same rows as shards, as TFRecords of floats and as TFRecords of bytes.

    Args:
        folder: Existing output folder.
        segments: Number of rows, rounded down to whole tracks (at least one track).
    """
    tracks = max(1, segments // SETTINGS.segments_per_track)
    for name in ("tfrecord", "tfrecord_bytes"):
        (folder / name).mkdir()
    calls = [
        (folder, index, min(TRACKS_PER_SHARD, tracks - first))
        for index, first in enumerate(range(0, tracks, TRACKS_PER_SHARD))
    ]
    # Spawn, because TensorFlow's threads are already running and would not survive a fork.
    with multiprocessing.get_context("spawn").Pool(min(os.cpu_count() or 1, len(calls))) as pool:
        pool.starmap(compose_shard, calls, chunksize=1)


def compose_shard(folder: Path, index: int, tracks: int) -> None:
    """Write the rows of one shard in each of the three formats."""
    random = np.random.default_rng(index)
    starts = segment_starts(TRACK_SECONDS * SETTINGS.sample_rate, SETTINGS)
    shard = ShardWriter(ShardPlan(shard_name(0, index, "0" * 16), StoragePath.of(folder), [], SETTINGS))
    with (
        tf.io.TFRecordWriter(str(folder / "tfrecord" / f"{index:05d}")) as floats,
        tf.io.TFRecordWriter(str(folder / "tfrecord_bytes" / f"{index:05d}")) as raw,
    ):
        for number in range(tracks):
            label, mfcc = int(random.integers(CLASSES)), compose_track(random, starts)
            shard.add(Track(f"{index}/{number}", "", label, 0), mfcc, starts / SETTINGS.sample_rate)
            # A serialized float_list holds the raw bytes contiguously, so they can be replaced in a template.
            # Building each Example from a list would take minutes.
            before, _, after = float_example(mfcc[0], label).partition(mfcc[0].tobytes())
            for segment in mfcc:
                floats.write(before + segment.tobytes() + after)
                raw.write(byte_example(segment, label))
    shard.finish(StoragePath.of(folder))


def compose_track(random: np.random.Generator, starts: np.ndarray) -> np.ndarray:
    """Return noise, smooth in time and weaker in higher coefficients, float32 [segments, features, frames]."""
    hop = SETTINGS.hop_length
    frames = 1 + TRACK_SECONDS * SETTINGS.sample_rate // hop
    noise = random.standard_normal((SETTINGS.features, frames), np.float32)
    smooth = scipy.signal.lfilter([1], [1, -0.9], noise).astype(np.float32)
    smooth *= 100 / np.arange(1, SETTINGS.features + 1, dtype=np.float32)[:, np.newaxis]
    return np.stack([smooth[:, start // hop :][:, : SETTINGS.frames] for start in starts])


def float_example(mfcc: np.ndarray, label: int) -> bytes:
    """Return a serialized tf.train.Example with the MFCC as floats."""
    return serialize_example(tf.train.Feature(float_list=tf.train.FloatList(value=mfcc.ravel())), label)


def byte_example(mfcc: np.ndarray, label: int) -> bytes:
    """Return a serialized tf.train.Example with the MFCC as bytes."""
    return serialize_example(tf.train.Feature(bytes_list=tf.train.BytesList(value=[mfcc.tobytes()])), label)


def serialize_example(mfcc: tf.train.Feature, label: int) -> bytes:
    """Return a serialized tf.train.Example."""
    features = {"mfcc": mfcc, "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label]))}
    content: bytes = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    return content


def shards_of(folder: Path) -> list[Shard]:
    """Return the shards in a folder, sorted by name."""
    shards = []
    for name in sorted(list_shards(folder)):
        path = StoragePath.of(folder) / "shards" / name
        metadata = pq.read_metadata(path.path, **path.arrow)
        sizes = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
        shards.append(Shard(name, path, fold_of(name), sizes, format=SETTINGS.format))
    return shards
