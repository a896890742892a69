"""The reader of a dataset's rows, with the copies on this machine that the settings ask for."""

import os
from pathlib import Path

from featurize.dataset.dataset import Dataset
from featurize.dataset.row_group_cache import RowGroupCache
from featurize.dataset.row_group_reader import RowGroupReader
from train.config import TrainConfig

_GIGABYTE = 1_000_000_000


def make_reader(dataset: Dataset, config: TrainConfig) -> RowGroupReader:
    """Return the reader that training and evaluation share.

    Raises:
        DatasetError: The folder `train.cache` cannot be written.
    """
    if config.cache is None:
        return RowGroupReader()
    folder = Path(os.path.expanduser(config.cache))
    return RowGroupReader(RowGroupCache(folder, int(config.cache_gigabytes * _GIGABYTE), dataset.folder))
