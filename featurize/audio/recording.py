"""Buffer that resamples mono blocks as they are decoded; long recordings are moved to a temporary file."""

import math
import tempfile
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

_MEMORY_SAMPLES = 12_000_000  # nine minutes, 48 MB; longer tracks use a temporary file


class Recording:
    """Mono samples at one rate, made from blocks at one rate or several.

    Blocks at another rate than the previous one begin a new run with a resampler that starts from zeros, as at the
    beginning of a file. A run of n frames becomes ceil(n * sample_rate / rate) samples, as in librosa.

    Attributes:
        low, high: The smallest and the largest sample; NaN if there is a NaN.
    """

    def __init__(self, sample_rate: int) -> None:
        """Create an empty buffer for a result at `sample_rate`, in Hz."""
        self._sample_rate = sample_rate
        self._resampler: Any = None
        self._rate = self._frames = 0  # of the current run, at its rate
        self._run_samples = 0  # of the current run, in the result
        self._seconds = 0.0  # of earlier runs
        self._parts: list[Float32] = []
        self._in_memory = self._in_file = 0
        self.low, self.high = math.inf, -math.inf
        self._file: Any = None

    @property
    def seconds(self) -> float:
        """Length so far."""
        return self._seconds + (self._frames / self._rate if self._rate else 0)

    def room(self, seconds: float, rate: int) -> int:
        """Return how many frames at a rate, in Hz, are missing to a length; negative if it is exceeded."""
        if self._rate in (0, rate):
            return int((seconds - self._seconds) * rate) - self._frames
        return int((seconds - self.seconds) * rate)

    def add(self, block: Float32, rate: int) -> None:
        """Add float32 [frames] at a rate in Hz."""
        if rate != self._rate:
            self._end_run()
            self._rate = rate
            if rate != self._sample_rate:
                self._resampler = soxr.ResampleStream(rate, self._sample_rate, 1, dtype="float32", quality="HQ")
        self._frames += len(block)
        self._keep(self._resampler.resample_chunk(block) if self._resampler else block)

    def samples(self) -> Float32:
        """End the recording and return all of it, float32 [samples]."""
        self._end_run()
        if not self._file:
            return np.concatenate(self._parts) if self._parts else np.empty(0, np.float32)
        self._spill()
        # The mapping stays valid after the file is closed; only the pages that segments use are loaded.
        return np.asarray(np.memmap(self._file, np.float32, mode="r", shape=(self._in_file,)))

    def close(self) -> None:
        """Close the temporary file, if any."""
        if self._file:
            self._file.close()

    def _end_run(self) -> None:
        if self._resampler:
            tail = self._resampler.resample_chunk(np.empty(0, np.float32), last=True)
            length = math.ceil(self._frames * (self._sample_rate / self._rate))  # rounded as in librosa
            missing = length - self._run_samples
            self._keep(tail[: max(missing, 0)])
            self._keep(np.zeros(max(missing - len(tail), 0), np.float32))
            self._resampler = None
        self._seconds = self.seconds
        self._rate = self._frames = self._run_samples = 0

    def _keep(self, samples: Float32) -> None:
        if not len(samples):
            return
        # np.minimum and np.maximum propagate NaN; Python's min and max do not.
        self.low = float(np.minimum(self.low, samples.min()))
        self.high = float(np.maximum(self.high, samples.max()))
        self._parts.append(samples)
        self._in_memory += len(samples)
        self._run_samples += len(samples)
        if self._in_memory > _MEMORY_SAMPLES:
            self._spill()

    def _spill(self) -> None:
        try:
            if not self._file:
                # An unnamed file, which the system removes when this process ends.
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - see close
            for part in self._parts:
                self._file.write(part)
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, tempfile.gettempdir()) from error
        self._in_file += self._in_memory
        self._parts, self._in_memory = [], 0
