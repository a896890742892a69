"""Batches for PyTorch, which Earmark does not install."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    import torch
    from torch.utils.data import IterableDataset, get_worker_info
except ImportError as error:
    raise ImportError("Dataset.torch needs PyTorch, which is not installed. Type: pip install torch") from error


class TorchBatches(IterableDataset):
    """Batches as tensors; each worker of a DataLoader yields its share."""

    def __init__(self, batches: Callable[..., Iterable[tuple[NDArray[np.float32], NDArray[np.int32]]]]) -> None:
        """Store how to begin; nothing is read yet.

        Args:
            batches: Returns every `every`-th batch from `first` on, which are its arguments. It can be pickled,
                for the processes that a DataLoader starts.
        """
        super().__init__()
        self._batches = batches

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Yield float32 [rows, features, frames] and int64 [rows]."""
        worker = get_worker_info()
        first, every = (worker.id, worker.num_workers) if worker else (0, 1)
        for features, labels in self._batches(first=first, every=every):
            yield torch.from_numpy(features), torch.from_numpy(labels.astype(np.int64))
