"""The batches of the training folds, in the order that the settings ask for."""

import numpy as np

from featurize.dataset.dataset import Dataset
from featurize.dataset.reader import in_threads, read_labels
from featurize.dataset.row_group_reader import RowGroupReader
from train.config import TrainConfig
from train.folds import fold_roles
from train.input.mixup import mixup_shares
from train.input.sampler import ShuffleSampler
from train.input.timed_stream import TimedStream


def training_stream(dataset: Dataset, config: TrainConfig, reader: RowGroupReader | None = None) -> TimedStream:
    """Return the batches of the training folds, with the configured shuffling, sampling and mixup."""
    shards = dataset.in_folds(fold_roles(config, dataset.layout).train)
    labels = None
    if config.sampling == "balanced":
        labels = np.concatenate(list(in_threads(lambda s: read_labels(s, dataset.segments_per_track), shards)))
    sampler = ShuffleSampler(
        [rows for shard in shards for rows in shard.row_groups],
        config.seed,
        config.shuffle_window,
        config.batch_size,
        dataset.segments_per_track,
        config.segments_per_epoch,
        labels,
    )
    mixup = mixup_shares(config.mixup, config.seed) if config.mixup else None
    return TimedStream(shards, sampler, mixup, reader)
