"""An audio file to mono samples at 22,050 Hz, the way `librosa.load` makes them, or a `Reject`."""

import math
import tempfile
from contextlib import closing
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from featurize.audio.decoders import Decoder, open_decoder
from featurize.audio.mfcc import SEGMENT_SAMPLES
from featurize.audio.source import BytesSource, Source, open_source
from featurize.dataset.info import FeatureSettings
from featurize.errors import Reject
from featurize.storage import StoragePath

Float32 = NDArray[np.float32]

# Below this peak (-100 dBFS, a tenth of the last bit of 16) there is nothing to hear; above the other one the
# power of a frame is more than float32 can hold. Full scale is 1.
SILENT_PEAK, LOUDEST_PEAK = 1e-5, 1e15
_MEMORY_SAMPLES = 12_000_000  # nine minutes, 48 MB; longer tracks lie in a temporary file


def load(place: StoragePath, settings: FeatureSettings) -> Float32:
    """Read a track, or the excerpt of it that the settings ask for.

    Channels are averaged and the result is resampled by soxr at high quality, as `librosa.load` does; an
    excerpt is what `librosa.load(duration=..., offset=...)` gives.

    Args:
        place: the file.
        settings: from `feature_settings`.

    Returns:
        float32 [samples], mono at `sample_rate`, finite, neither silent nor shorter than a segment.

    Raises:
        Reject: the file is not such a track.
        CollectionLostError: a file elsewhere cannot be reached.
    """
    with open_source(place) as source:
        return decode(source, place.suffix, settings)


def decode(source: Source | BytesSource, suffix: str, settings: FeatureSettings) -> Float32:
    """Do what `load` says, from the bytes on."""
    seconds = settings.excerpt_seconds
    with closing(open_decoder(source, suffix)) as decoder:
        if seconds is None or settings.excerpt_position == "start":
            return _record(decoder, settings, seconds)
        offset = (decoder.frames - int(seconds * decoder.rate)) // 2
        if offset > 0 and decoder.seek(offset):
            try:
                return _record(decoder, settings, seconds, all_of_it=True)
            except EOFError:
                pass
    # Too short for the excerpt, or the header does not know how long it is: read all of it, then cut.
    source.seek(0)
    with closing(open_decoder(source, suffix)) as decoder:
        samples = _record(decoder, settings, None)
    wanted = min(int(seconds * settings.sample_rate), len(samples))
    start = (len(samples) - wanted) // 2
    return samples[start : start + wanted]


def _record(
    decoder: Decoder, settings: FeatureSettings, excerpt_seconds: float | None, all_of_it: bool = False
) -> Float32:
    """Read a decoder from where it is up to the end of the excerpt, or to its own end.

    Raises:
        EOFError: there is less than all of the excerpt, where `all_of_it` is asked for.
    """
    longest = int((settings.max_seconds if excerpt_seconds is None else excerpt_seconds) * decoder.rate)
    with closing(_Recording(decoder.rate, settings.sample_rate)) as recording:
        for block in decoder.blocks():
            room = longest - recording.frames
            if len(block) > room and excerpt_seconds is None:
                raise Reject(
                    "check",
                    "too long",
                    f"more than {settings.max_seconds:g} s; allow more with featurize.max_seconds, or read a "
                    "part with featurize.excerpt_seconds",
                )
            recording.add(block[:room])
            if len(block) >= room and excerpt_seconds is not None:
                break
        if all_of_it and recording.frames < longest:
            raise EOFError
        return recording.samples()


class _Recording:
    """Mono blocks at one rate, collected at another; what does not fit in memory goes to a temporary file."""

    def __init__(self, native_rate: int, sample_rate: int) -> None:
        """Begin with nothing; rates in Hz."""
        self.frames = 0  # at the native rate
        self._ratio = sample_rate / native_rate
        self._sample_rate = sample_rate
        self._resampler = None
        if native_rate != sample_rate:
            self._resampler = soxr.ResampleStream(native_rate, sample_rate, 1, dtype="float32", quality="HQ")
        self._parts: list[Float32] = []
        self._in_memory = self._in_file = 0
        self._low, self._high = math.inf, -math.inf
        self._file: Any = None

    def add(self, block: Float32) -> None:
        """Add float32 [frames] at the native rate."""
        self.frames += len(block)
        self._keep(self._resampler.resample_chunk(block) if self._resampler else block)

    def samples(self) -> Float32:
        """Return everything, float32 [samples], or raise a Reject where it holds nothing to learn from."""
        if self._resampler:
            self._keep(self._resampler.resample_chunk(np.empty(0, np.float32), last=True))
            length = math.ceil(self.frames * self._ratio)  # librosa's own rounding
            missing = length - self._in_memory - self._in_file
            if missing > 0:
                self._keep(np.zeros(missing, np.float32))
        else:
            length = self.frames
        self._check(length)
        if not self._file:
            return np.concatenate(self._parts)[:length]
        self._spill()
        # Of the mapping, which outlives the file, only the pages of the segments are ever read.
        return np.asarray(np.memmap(self._file, np.float32, mode="r", shape=(length,)))

    def close(self) -> None:
        """Let go of the temporary file, if there is one."""
        if self._file:
            self._file.close()

    def _keep(self, samples: Float32) -> None:
        if not len(samples):
            return
        # NumPy's, which keep a NaN once they have met it.
        self._low = float(np.minimum(self._low, samples.min()))
        self._high = float(np.maximum(self._high, samples.max()))
        self._parts.append(samples)
        self._in_memory += len(samples)
        if self._in_memory > _MEMORY_SAMPLES:
            self._spill()

    def _spill(self) -> None:
        try:
            if not self._file:
                # Without a name: it is gone with this process.
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - see close
            for part in self._parts:
                self._file.write(part)
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, tempfile.gettempdir()) from error
        self._in_file += self._in_memory
        self._parts, self._in_memory = [], 0

    def _check(self, length: int) -> None:
        if length < SEGMENT_SAMPLES:
            found, needed = length / self._sample_rate, SEGMENT_SAMPLES / self._sample_rate
            raise Reject("check", "too short", f"{found:.3f} s, one segment needs {needed:.3f} s")
        peak = max(-self._low, self._high)
        if not math.isfinite(peak):
            raise Reject("check", "not finite", "the decoded samples contain NaN or infinity")
        if peak > LOUDEST_PEAK:
            raise Reject("check", "not finite", f"peak {peak:.1e} of full scale: its power overflows")
        if peak < SILENT_PEAK:
            raise Reject("check", "silent", f"peak {peak:.1e} of full scale, expected {SILENT_PEAK:.0e} or more")
