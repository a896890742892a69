"""Datasets of features: their tracks, and their segments for NumPy, TensorFlow and PyTorch."""

import os
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featurize.dataset.dataset import open_dataset
from featurize.dataset.feature_settings import FeatureSettings
from featurize.dataset.reader import Shard
from featurize.dataset.row_group_reader import RowGroupReader
from featurize.errors import DatasetError
from train.input.sampler import ShuffleSampler
from train.input.window_cache import WindowCache

if TYPE_CHECKING:
    import tensorflow as tf

Place = str | os.PathLike[str]
Segments = tuple[NDArray[np.float32], NDArray[np.int32]]

_WINDOW = 32_768  # segments, as the default of train.shuffle_window
_GROUPS_AT_ONCE = 16


class Dataset:
    """A complete dataset, made by `featurize` or `earmark featurize`."""

    def __init__(self, features: Place) -> None:
        """Open a dataset.

        Args:
            features: Folder of the dataset; a path or a URI.

        Raises:
            DatasetError: The folder holds no complete dataset.
        """
        self._dataset = open_dataset(os.fspath(features))

    def __repr__(self) -> str:
        rows = sum(shard.rows for shard in self._dataset.shards)
        return f"<earmark.Dataset {self._dataset.folder}: {rows} segments of {len(self.classes)} classes>"

    def __len__(self) -> int:
        """Return the number of segments."""
        return sum(shard.rows for shard in self._dataset.shards)

    @property
    def id(self) -> str:
        """Fingerprint of the dataset; it changes with the collection and the feature settings."""
        return self._dataset.id

    @property
    def classes(self) -> list[str]:
        """Class names; a label is an index into this list."""
        return list(self._dataset.classes)

    @property
    def folds(self) -> list[int]:
        """Numbers of the folds that have segments."""
        return sorted({shard.fold for shard in self._dataset.shards if shard.rows})

    @property
    def shape(self) -> tuple[int, int]:
        """Features and frames of a segment."""
        return self._dataset.info.settings.shape

    @property
    def settings(self) -> FeatureSettings:
        """The settings that the features were computed with."""
        return self._dataset.info.settings

    @property
    def tracks(self) -> pa.Table:
        """All tracks: `track`, `label`, `group`, `fold`, `size` in bytes and `shard`."""
        return self._dataset.tracks()

    @property
    def rejects(self) -> pa.Table:
        """The rejected tracks: `path`, `stage`, `reason` and `message`."""
        return self._dataset.rejects()

    def numpy(self, folds: Collection[int] | None = None) -> Segments:
        """Read all segments into memory, in stored order: the segments of a track are adjacent.

        Args:
            folds: Numbers of folds; None for all.

        Returns:
            float32 [segments, features, frames], and int32 [segments], class indices. With default settings a
            segment takes 34,720 bytes.

        Raises:
            DatasetError: There are no such segments, or a shard was lost or damaged.
        """
        shards = self._shards(folds)
        rows = sum(shard.rows for shard in shards)
        features, labels = np.empty((rows, *self.shape), np.float32), np.empty(rows, np.int32)
        groups = [(shard, index) for shard in shards for index in range(len(shard.row_groups))]
        reader, end = RowGroupReader(), 0
        for first in range(0, len(groups), _GROUPS_AT_ONCE):
            for part, part_labels in reader.read(groups[first : first + _GROUPS_AT_ONCE]):
                begin, end = end, end + len(part_labels)
                features[begin:end], labels[begin:end] = part, part_labels
        return features, labels

    def batches(
        self,
        folds: Collection[int] | None = None,
        batch_size: int = 64,
        seed: int = 0,
        epochs: int = 1,
        shuffle_window: int = _WINDOW,
    ) -> Iterator[Segments]:
        """Return shuffled batches in the order in which training reads them, in bounded memory.

        Args:
            folds: Numbers of folds; None for all.
            batch_size: Segments of a batch; the last one of an epoch may be smaller, or up to 31 larger.
            seed: Random seed of the order.
            epochs: Number of epochs; each has another order.
            shuffle_window: Segments in memory, among which those of a batch are drawn.

        Returns:
            Iterator over float32 [rows, features, frames], and int32 [rows], class indices.
        """
        return self._every(folds, batch_size, seed, epochs, shuffle_window)

    def tf(
        self,
        folds: Collection[int] | None = None,
        batch_size: int = 64,
        seed: int = 0,
        epochs: int = 1,
        shuffle_window: int = _WINDOW,
    ) -> "tf.data.Dataset":
        """Return the batches of `batches` as a `tf.data.Dataset`, read ahead by threads.

        Returns:
            Elements are float32 [rows, features, frames] and int32 [rows], class indices, as `keras.Model.fit`
            takes them.
        """
        import tensorflow as tf

        from train.input.batches import SegmentStream

        shards = self._shards(folds)
        stream = SegmentStream(shards, self._sampler(shards, batch_size, seed, shuffle_window))
        batches = stream.dataset(0, epochs * stream.steps_per_epoch, 1, [0])
        pairs = tf.autograph.experimental.do_not_convert(lambda batch: (batch.mfcc, batch.labels))
        return batches.map(pairs)

    def torch(
        self,
        folds: Collection[int] | None = None,
        batch_size: int = 64,
        seed: int = 0,
        epochs: int = 1,
        shuffle_window: int = _WINDOW,
    ) -> Any:
        """Return the batches of `batches` as a `torch.utils.data.IterableDataset`.

        With `DataLoader(dataset, batch_size=None, num_workers=N)`, each of N processes yields every Nth batch.
        Each reads all rows for that, because the rows of a batch come from all parts of the dataset: one process
        is enough unless your own transformation is slow.

        Returns:
            Elements are tensors, float32 [rows, features, frames] and int64 [rows], class indices.

        Raises:
            ImportError: PyTorch is not installed.
        """
        from earmark.torch_batches import TorchBatches

        return TorchBatches(partial(self._every, folds, batch_size, seed, epochs, shuffle_window))

    def _every(
        self,
        folds: Collection[int] | None,
        batch_size: int,
        seed: int,
        epochs: int,
        shuffle_window: int,
        first: int = 0,
        every: int = 1,
    ) -> Iterator[Segments]:
        """Yield every `every`-th batch, from `first` on."""
        shards = self._shards(folds)
        sampler = self._sampler(shards, batch_size, seed, shuffle_window)
        lanes = sampler.lanes
        cache = WindowCache(shards, sampler, lookback=lanes.most_rows)
        for number in range(first, epochs * lanes.steps, every):
            epoch, step = divmod(number, lanes.steps)
            yield cache.rows(epoch, list(lanes.spans(step, 0, lanes.batch_rows(step))))

    def _shards(self, folds: Collection[int] | None) -> list[Shard]:
        wanted = self.folds if folds is None else list(folds)
        if unknown := sorted(set(wanted) - set(self.folds)):
            raise DatasetError(
                f"{self._dataset.folder} has no segments in the folds {unknown}; it has {self.folds}."
            )
        shards = self._dataset.in_folds(wanted)
        if not shards:
            raise DatasetError(f"{self._dataset.folder}: no folds were given; it has {self.folds}.")
        return shards

    def _sampler(self, shards: Sequence[Shard], batch_size: int, seed: int, window: int) -> ShuffleSampler:
        if batch_size < 1:
            raise ValueError(f"batch_size = {batch_size}, expected 1 or more")
        sizes = [rows for shard in shards for rows in shard.row_groups]
        return ShuffleSampler(sizes, seed, window, batch_size, self._dataset.segments_per_track)


def open(features: Place) -> Dataset:
    """Open a dataset; see `Dataset`."""
    return Dataset(features)
