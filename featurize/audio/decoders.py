"""Encoded bytes to mono blocks at the native rate: libsndfile first, then PyAV."""

import importlib.util
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from featurize.audio.source import BytesSource, Source
from featurize.collection.listing import AV_SUFFIXES
from featurize.errors import Reject
from featurize.ffmpeg import open_container

Float32 = NDArray[np.float32]

LOWEST_RATE, HIGHEST_RATE = 100, 1_000_000  # Hz; a rate outside is damage
MOST_CHANNELS = 1024  # as libsndfile; a block of all channels is held in memory
MOST_STREAMS = 64  # of a container, of all kinds
# Blocks are bounded in samples and in seconds, so that no allocation depends on what a header claims.
_BLOCK_SAMPLES = 1 << 18
_BLOCK_SECONDS = 8
_SMALLER = 32  # factor by which blocks shrink near damage
_UNRECOGNISED = 1  # libsndfile's SF_ERR_UNRECOGNISED_FORMAT
_PROBE_SECONDS = 60.0  # to find the streams of a file, and to read one packet


class Decoder(Protocol):
    """An open audio file.

    Attributes:
        rate: Native sample rate in Hz.
        channels: Number of channels.
        frames: Length by the header, which may be wrong; 0 if the header does not give one.
    """

    rate: int
    channels: int
    frames: int

    def seek(self, frame: int) -> bool:
        """Seek to a frame; return whether that worked."""

    def blocks(self) -> Iterator[Float32]:
        """Yield float32 [frames], the mean of all channels, from the current position to the end.

        Raises:
            Reject: Stage `decode`: the stream breaks before any sample.
        """

    def close(self) -> None:
        """Close the file."""


def open_decoder(source: Source | BytesSource, suffix: str) -> Decoder:
    """Open a file with the first decoder that reads it.

    Args:
        source: Encoded bytes.
        suffix: Suffix of the file name, for the advice to install PyAV; the format is found from the bytes alone.

    Raises:
        Reject: Stage `decode`: no decoder reads it, or its rate or number of channels is out of range.
    """
    try:
        decoder: Decoder = SndfileDecoder(source)
    except soundfile.LibsndfileError as error:
        if error.code != _UNRECOGNISED:
            raise Reject("decode", "not decodable", error.error_string) from error
        if importlib.util.find_spec("av") is None:
            if suffix in AV_SUFFIXES:
                raise Reject(
                    "decode",
                    "needs PyAV",
                    f"libsndfile does not read {suffix}: pip install 'earmark[av]', then run again with "
                    "--retry-rejects",
                ) from error
            raise Reject("decode", "not decodable", error.error_string) from error
        source.seek(0)
        decoder = AvDecoder(source)
    try:
        if not LOWEST_RATE <= decoder.rate <= HIGHEST_RATE:
            raise Reject("decode", "not decodable", f"the sample rate is {decoder.rate} Hz")
        if decoder.channels > MOST_CHANNELS:
            found = f"it has {decoder.channels} channels, expected at most {MOST_CHANNELS}"
            raise Reject("decode", "not decodable", found)
    except Reject:
        decoder.close()
        raise
    return decoder


class SndfileDecoder:
    """MP3, FLAC, Ogg Vorbis, Opus, WAV and AIFF through libsndfile."""

    def __init__(self, source: Source | BytesSource) -> None:
        """Open a file, or raise soundfile.LibsndfileError."""
        self._source = source
        self._file = _ForwardFile(source)
        self._position = 0  # next frame
        self.rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.frames: int = self._file.frames

    def seek(self, frame: int) -> bool:
        """Seek to a frame, as `librosa.load(offset=...)` does."""
        try:
            self._position = self._file.seek(frame)
            return self._position == frame
        except soundfile.LibsndfileError:
            return False

    def blocks(self) -> Iterator[Float32]:
        """Yield the remaining blocks, see Decoder."""
        frames = max(1, min(_BLOCK_SAMPLES // self._file.channels, _BLOCK_SECONDS * self.rate))
        begin = self._position
        while True:
            try:
                block = np.empty((frames, self._file.channels), np.float32)
                while len(read := self._file.read(out=block)):
                    self._position += len(read)
                    yield _mono(read.T)
                return
            except soundfile.LibsndfileError as error:
                # libsndfile returns nothing of a block with damage in it: read up to the damage in smaller blocks.
                frames //= _SMALLER
                if frames and self._reopen():
                    continue
                if self._position == begin:
                    raise Reject("decode", "not decodable", error.error_string) from error
                return

    def _reopen(self) -> bool:
        """Reopen the file at the current position; return whether that worked."""
        self._file.close()
        self._source.seek(0)
        self._file = _ForwardFile(self._source)
        return self.seek(self._position)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _ForwardFile(soundfile.SoundFile):
    """A file that is read forward only.

    After each block, soundfile seeks to the current position. For MP3 that restarts the decoder in the middle of
    its bit reservoir, and at low bit rates the next samples are wrong. A file that is not seekable avoids it.
    """

    def seekable(self) -> bool:
        return False


class AvDecoder:
    """AAC in its containers, WMA, ALAC, APE and other formats of FFmpeg through PyAV; opens nothing else."""

    frames = 0

    def __init__(self, source: Source | BytesSource) -> None:
        """Open a file, or raise a Reject."""
        import av  # an extra, and slow to import

        self._av = av
        try:
            self._container: Any = open_container(source, _PROBE_SECONDS)
        except av.ExitError as error:
            raise _too_slow() from error
        except (av.FFmpegError, ValueError) as error:
            raise Reject("decode", "not decodable", "neither libsndfile nor FFmpeg recognizes it") from error
        try:
            streams = self._container.streams
            if len(streams) > MOST_STREAMS:
                found = f"it has {len(streams)} streams, expected at most {MOST_STREAMS}"
                raise Reject("decode", "not decodable", found)
            if not streams.audio:
                raise Reject("decode", "not decodable", "it holds no audio")
            self._stream = streams.audio[0]
            self.rate: int = self._stream.rate or 0
            self.channels: int = self._stream.channels or 0
        except Reject:
            self.close()
            raise

    def seek(self, frame: int) -> bool:
        """Do not seek: in these formats the position of a frame is an estimate."""
        return False

    def blocks(self) -> Iterator[Float32]:
        """Yield all blocks, see Decoder; a stream that breaks in mid-file ends there, as with libsndfile."""
        to_planes = self._av.AudioResampler(format="fltp", layout=self._stream.layout, rate=self.rate)
        try:
            for frame in self._container.decode(self._stream):
                for planes in to_planes.resample(frame):
                    yield _mono(np.asarray(planes.to_ndarray(), np.float32))
        except self._av.ExitError as error:
            raise _too_slow() from error
        except (self._av.FFmpegError, ValueError):
            return

    def close(self) -> None:
        """Close the file."""
        self._container.close()


def _too_slow() -> Reject:
    return Reject("decode", "timed out", f"FFmpeg was not done after {_PROBE_SECONDS:g} s")


def _mono(channels: Float32) -> Float32:
    """Average float32 [channels, frames] to float32 [frames], always a copy.

    A matrix product, because `mean` over interleaved channels takes longer than decoding MP3.
    """
    if len(channels) == 1:
        return np.array(channels[0])
    with np.errstate(invalid="ignore", over="ignore"):  # infinite samples are rejected later
        mono: Float32 = np.full(len(channels), 1 / len(channels), np.float32) @ channels
    return mono
