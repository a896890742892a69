"""Memory for large arrays, used again: fresh pages cost more than what is copied into them."""

import sys
import threading

import numpy as np
from numpy.typing import NDArray

_ALIGNMENT = 64  # bytes; TensorFlow copies what begins elsewhere
_REFERENCES_WHEN_FREE = 3  # the list, the loop's variable and the call that counts


class Buffers:
    """A pool of memory; an array taken from it gives its memory back when nothing refers to it any more."""

    def __init__(self) -> None:
        """Begin with none."""
        self._all: list[NDArray[np.uint8]] = []
        self._lock = threading.Lock()

    def take(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return float32 of some shape, with anything in it, that TensorFlow takes without copying."""
        size = int(np.prod(shape)) * np.dtype(np.float32).itemsize
        with self._lock:
            buffer = self._free(size + _ALIGNMENT)
            begin = -buffer.ctypes.data % _ALIGNMENT
            # NumPy's views refer to the buffer itself, and TensorFlow's tensors to the view.
            return buffer[begin : begin + size].view(np.float32).reshape(shape)

    def _free(self, size: int) -> NDArray[np.uint8]:
        """Return memory that nobody uses; what is too small and unused is given up for it."""
        kept = []
        found = None
        for buffer in self._all:
            is_free = sys.getrefcount(buffer) == _REFERENCES_WHEN_FREE
            if is_free and found is None and len(buffer) >= size:
                found = buffer
            if not is_free or len(buffer) >= size:
                kept.append(buffer)
        if found is None:
            found = np.empty(size, np.uint8)
            kept.append(found)
        self._all = kept
        return found
