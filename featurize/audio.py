"""Encoded bytes to mono samples at 22,050 Hz, the way `librosa.load` makes them, or a `Reject`."""

import io
import math

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

# Decoded block by block, so that no allocation depends on what a header claims.
_BLOCK_FRAMES = 1 << 17

# Below this peak (-100 dBFS, a tenth of the last bit of 16) there is nothing to hear.
SILENT_PEAK = 1e-5


class Reject(Exception):  # noqa: N818 - a verdict on one track, not an error of the program
    """A track that cannot become rows.

    Attributes:
        stage: where it was found out: `open`, `decode` or `check`.
        reason: what is wrong, from a small fixed vocabulary, so that reasons can be counted.
        message: the decoder's own words or the figures, for the one who looks into it.
    """

    def __init__(self, stage: str, reason: str, message: str) -> None:
        super().__init__(stage, reason, message)
        self.stage = stage
        self.reason = reason
        self.message = message


def read_bytes(path: str) -> bytes:
    """Read one file whole.

    Raises:
        Reject: stage `open`: it is missing, empty or may not be read.
    """
    try:
        with open(path, "rb") as file:
            encoded = file.read()
    except FileNotFoundError as error:
        raise Reject("open", "missing", str(error)) from error
    except OSError as error:
        raise Reject("open", "unreadable", str(error)) from error
    if not encoded:
        raise Reject("open", "empty", "0 bytes")
    return encoded


def decode(encoded: bytes, sample_rate: int) -> NDArray[np.float32]:
    """Decode MP3, FLAC, Ogg Vorbis, Opus, WAV or AIFF of any rate and channel count.

    Channels are averaged and the result is resampled by soxr at high quality, as `librosa.load` does.

    Args:
        encoded: the bytes of the file.
        sample_rate: the rate wanted, in Hz.

    Returns:
        float32 [samples], mono, full scale at 1.0.

    Raises:
        Reject: stage `decode`: not a format that libsndfile reads, or a stream that breaks.
    """
    try:
        with _ForwardFile(_Encoded(encoded)) as file:
            native_rate = file.samplerate
            mono = _read_mono(file)
    except soundfile.LibsndfileError as error:
        raise Reject("decode", "not decodable", error.error_string) from error
    return _resample(mono, native_rate, sample_rate)


def check(samples: NDArray[np.float32], shortest: int, sample_rate: int) -> None:
    """Refuse samples that hold nothing to learn from.

    Args:
        samples: float32 [samples], mono.
        shortest: the least number of samples that is of use.
        sample_rate: in Hz, for the message.

    Raises:
        Reject: stage `check`: too short, not finite, or silent.
    """
    if len(samples) < shortest:
        found, needed = len(samples) / sample_rate, shortest / sample_rate
        raise Reject("check", "too short", f"{found:.3f} s, one segment needs {needed:.3f} s")
    low, high = float(samples.min()), float(samples.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise Reject("check", "not finite", "the decoded samples contain NaN or infinity")
    peak = max(-low, high)
    if peak < SILENT_PEAK:
        raise Reject("check", "silent", f"peak {peak:.1e} of full scale, expected {SILENT_PEAK:.0e} or more")


class _Encoded(io.BytesIO):
    """The bytes of a file that may be damaged, and send the decoder to a place before their beginning."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()  # where it was, which is not what the decoder asked for: it will give up


class _ForwardFile(soundfile.SoundFile):
    """A file that is read from its beginning to its end.

    After each block soundfile seeks to where it already is. In MP3 that restarts the decoder in the middle of
    its bit reservoir, and at low bit rates the next samples come out wrong. What cannot seek is left alone.
    """

    def seekable(self) -> bool:
        return False


def _read_mono(file: soundfile.SoundFile) -> NDArray[np.float32]:
    """Read all channels block by block and average them; float32 [frames]."""
    block = np.empty((_BLOCK_FRAMES, file.channels), np.float32)
    # A matrix product: `mean(axis=1)` over interleaved channels takes longer than the MP3 decoder.
    average = np.full(file.channels, 1 / file.channels, np.float32)
    parts = []
    while len(read := file.read(out=block)):
        parts.append(read @ average if file.channels > 1 else read[:, 0].copy())
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def _resample(mono: NDArray[np.float32], native_rate: int, sample_rate: int) -> NDArray[np.float32]:
    """Resample as `librosa.resample(res_type='soxr_hq')` does, length included; float32 [samples]."""
    if native_rate == sample_rate or not len(mono):
        return mono
    length = math.ceil(len(mono) * (sample_rate / native_rate))  # librosa's own rounding
    resampled: NDArray[np.float32] = soxr.resample(mono, native_rate, sample_rate, quality="HQ")
    if len(resampled) < length:
        resampled = np.pad(resampled, (0, length - len(resampled)))
    return resampled[:length]
