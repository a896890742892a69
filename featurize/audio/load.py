"""Load an audio file as mono samples at 22,050 Hz, equal to `librosa.load`, or raise a `Reject`."""

import math
import tempfile
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from featurize.audio.decoders import Decoder, open_decoder
from featurize.audio.mfcc import SEGMENT_SAMPLES
from featurize.audio.remote_file import Beginning
from featurize.audio.source import BytesSource, Source, open_source
from featurize.dataset.info import FeatureSettings
from featurize.errors import Reject
from featurize.storage import StoragePath

Float32 = NDArray[np.float32]

# Peaks relative to full scale, which is 1. Below -100 dBFS, a third of the least significant bit of 16-bit audio,
# a track counts as silent; above LOUDEST_PEAK the power of a frame may overflow float32.
SILENT_PEAK, LOUDEST_PEAK = 1e-5, 1e15
_MEMORY_SAMPLES = 12_000_000  # nine minutes, 48 MB; longer tracks use a temporary file


def load(path: StoragePath, settings: FeatureSettings, fetched: Callable[[], Beginning] | None = None) -> Float32:
    """Load a track, or the excerpt that the settings specify.

    Channels are averaged and the result is resampled by soxr at high quality, as in `librosa.load`. An excerpt
    equals `librosa.load(duration=..., offset=...)`.

    Args:
        path: Audio file.
        settings: Feature settings.
        fetched: What was read of a remote file ahead of time, as in `open_source`.

    Returns:
        float32 [samples], mono at `sample_rate`, finite, neither silent nor shorter than a segment.

    Raises:
        Reject: The file cannot be opened or decoded, fails a check, or changed twice while it was read.
        CollectionLostError: A remote file cannot be reached.
    """
    try:
        return _load_once(path, settings, fetched)
    except Reject as reject:
        if reject.reason != "changed":
            raise
    return _load_once(path, settings, None)  # it may have been replaced, or its copying may have come to its end


def _load_once(path: StoragePath, settings: FeatureSettings, fetched: Callable[[], Beginning] | None) -> Float32:
    with open_source(path, fetched) as source:
        return decode(source, path.suffix, settings)


def decode(source: Source | BytesSource, suffix: str, settings: FeatureSettings) -> Float32:
    """Load a track from an open source; `suffix` selects the decoder. Returns and raises as `load`."""
    seconds = settings.excerpt_seconds
    with closing(open_decoder(source, suffix)) as decoder:
        if seconds is None or settings.excerpt_position == "start":
            return _record(decoder, settings, seconds)
        offset = (decoder.frames - int(seconds * decoder.rate)) // 2
        if offset > 0 and decoder.seek(offset):
            try:
                return _record(decoder, settings, seconds, require_full=True)
            except EOFError:
                pass
    # The track is shorter than the excerpt, or its header has no reliable length: decode all of it, then cut.
    source.seek(0)
    with closing(open_decoder(source, suffix)) as decoder:
        samples = _record(decoder, settings, None)
    length = min(int(seconds * settings.sample_rate), len(samples))
    start = (len(samples) - length) // 2
    return samples[start : start + length]


def _record(
    decoder: Decoder, settings: FeatureSettings, excerpt_seconds: float | None, require_full: bool = False
) -> Float32:
    """Decode from the current position to the end of the excerpt, or to the end of the track.

    Args:
        decoder: Decoder of the track.
        settings: Feature settings.
        excerpt_seconds: Length of the excerpt in seconds; None to decode to the end of the track.
        require_full: Whether a shorter result is an error.

    Returns:
        float32 [samples] at `sample_rate`.

    Raises:
        Reject: The track is too long, or fails a check.
        EOFError: The track ends before the end of the excerpt, and `require_full` is set.
    """
    max_frames = int((settings.max_seconds if excerpt_seconds is None else excerpt_seconds) * decoder.rate)
    with closing(_Recording(decoder.rate, settings.sample_rate)) as recording:
        for block in decoder.blocks():
            room = max_frames - recording.frames
            if len(block) > room and excerpt_seconds is None:
                raise Reject("check", "too long", f"more than {settings.max_seconds:g} s")
            recording.add(block[:room])
            if len(block) >= room and excerpt_seconds is not None:
                break
        if require_full and recording.frames < max_frames:
            raise EOFError
        return recording.samples()


class _Recording:
    """Buffer that resamples mono blocks; long recordings are moved to a temporary file."""

    def __init__(self, native_rate: int, sample_rate: int) -> None:
        """Create an empty buffer.

        Args:
            native_rate: Sample rate of the blocks, in Hz.
            sample_rate: Sample rate of the result, in Hz.
        """
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
        """Return the whole recording, float32 [samples]; raise a Reject if it is short, silent or not finite."""
        if self._resampler:
            self._keep(self._resampler.resample_chunk(np.empty(0, np.float32), last=True))
            length = math.ceil(self.frames * self._ratio)  # rounded as in librosa
            missing = length - self._in_memory - self._in_file
            if missing > 0:
                self._keep(np.zeros(missing, np.float32))
        else:
            length = self.frames
        self._check(length)
        if not self._file:
            return np.concatenate(self._parts)[:length]
        self._spill()
        # The mapping stays valid after the file is closed; only the pages that segments use are loaded.
        return np.asarray(np.memmap(self._file, np.float32, mode="r", shape=(length,)))

    def close(self) -> None:
        """Close the temporary file, if any."""
        if self._file:
            self._file.close()

    def _keep(self, samples: Float32) -> None:
        if not len(samples):
            return
        # np.minimum and np.maximum propagate NaN; Python's min and max do not.
        self._low = float(np.minimum(self._low, samples.min()))
        self._high = float(np.maximum(self._high, samples.max()))
        self._parts.append(samples)
        self._in_memory += len(samples)
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
