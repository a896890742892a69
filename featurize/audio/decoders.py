"""Encoded bytes to mono blocks at the file's own rate: by libsndfile, or by PyAV for what that does not know."""

import importlib.util
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from featurize.audio.source import BytesSource, Source
from featurize.collection.listing import AV_SUFFIXES
from featurize.errors import Reject

Float32 = NDArray[np.float32]

LOWEST_RATE, HIGHEST_RATE = 100, 1_000_000  # Hz; what lies outside is damage and not music
# No allocation depends on what a header claims: a block is bounded in samples and in seconds.
_BLOCK_SAMPLES = 1 << 18
_BLOCK_SECONDS = 8
_SMALLER = 32  # by how much blocks shrink near damage
_UNRECOGNISED = 1  # libsndfile's SF_ERR_UNRECOGNISED_FORMAT


class Decoder(Protocol):
    """An open audio file.

    Attributes:
        rate: in Hz.
        frames: how long its header says that it is, which may be a lie; 0 where it does not say.
    """

    rate: int
    frames: int

    def seek(self, frame: int) -> bool:
        """Go to a frame, if this decoder can."""

    def blocks(self) -> Iterator[Float32]:
        """Yield float32 [frames], the mean of all channels, from here to the end.

        Raises:
            Reject: stage `decode`: the stream breaks in a way that leaves nothing to use.
        """

    def close(self) -> None:
        """Let go of the file."""


def open_decoder(source: Source | BytesSource, suffix: str) -> Decoder:
    """Open a file with whatever reads it.

    Args:
        source: the bytes.
        suffix: of the file's name, for the advice to install PyAV; the bytes alone say what the format is.

    Raises:
        Reject: stage `decode`: nothing reads it.
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
    if not LOWEST_RATE <= decoder.rate <= HIGHEST_RATE:
        raise Reject("decode", "not decodable", f"the sample rate is {decoder.rate} Hz")
    return decoder


class SndfileDecoder:
    """MP3, FLAC, Ogg Vorbis, Opus, WAV and AIFF, by libsndfile."""

    def __init__(self, source: Source | BytesSource) -> None:
        """Open a file, or raise soundfile.LibsndfileError."""
        self._source = source
        self._file = _ForwardFile(source)
        self._position = 0  # of the next frame
        self.rate: int = self._file.samplerate
        self.frames: int = self._file.frames

    def seek(self, frame: int) -> bool:
        """Go to a frame, as `librosa.load(offset=...)` does."""
        try:
            self._position = self._file.seek(frame)
            return self._position == frame
        except soundfile.LibsndfileError:
            return False

    def blocks(self) -> Iterator[Float32]:
        """Yield what is left, see Decoder."""
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
                # For damage anywhere in a block libsndfile gives none of it: read up to there in smaller ones.
                frames //= _SMALLER
                if frames and self._reopen():
                    continue
                if self._position == begin:
                    raise Reject("decode", "not decodable", error.error_string) from error
                return

    def _reopen(self) -> bool:
        """Open the file anew where it stands, and say whether that was possible."""
        self._file.close()
        self._source.seek(0)
        self._file = _ForwardFile(self._source)
        return self.seek(self._position)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


class _ForwardFile(soundfile.SoundFile):
    """A file that is read from some place to its end.

    After each block soundfile seeks to where it already is. In MP3 that restarts the decoder in the middle of
    its bit reservoir, and at low bit rates the next samples come out wrong. What cannot seek is left alone.
    """

    def seekable(self) -> bool:
        return False


class AvDecoder:
    """AAC in its containers, WMA, ALAC, APE and whatever else FFmpeg knows, by PyAV."""

    frames = 0

    def __init__(self, source: Source | BytesSource) -> None:
        """Open a file, or raise a Reject."""
        import av  # an extra, and slow to load

        self._av = av
        try:
            self._container: Any = av.open(source, metadata_errors="ignore")
            if not self._container.streams.audio:
                raise Reject("decode", "not decodable", "it holds no audio")
            self._stream = self._container.streams.audio[0]
            self.rate: int = self._stream.rate or 0
        except (av.FFmpegError, ValueError) as error:
            raise Reject("decode", "not decodable", "neither libsndfile nor FFmpeg recognises it") from error

    def seek(self, frame: int) -> bool:
        """Stay: the places of frames in these formats are estimates."""
        return False

    def blocks(self) -> Iterator[Float32]:
        """Yield all of it, see Decoder; a stream that breaks in the middle ends there, as in libsndfile."""
        to_planes = self._av.AudioResampler(format="fltp", layout=self._stream.layout, rate=self.rate)
        try:
            for frame in self._container.decode(self._stream):
                for planes in to_planes.resample(frame):
                    yield _mono(np.asarray(planes.to_ndarray(), np.float32))
        except (self._av.FFmpegError, ValueError):
            return

    def close(self) -> None:
        """Let go of the file."""
        self._container.close()


def _mono(channels: Float32) -> Float32:
    """Average float32 [channels, frames] to float32 [frames], which is always a copy.

    By a matrix product: `mean` over interleaved channels takes longer than the MP3 decoder.
    """
    if len(channels) == 1:
        return np.array(channels[0])
    with np.errstate(invalid="ignore", over="ignore"):  # infinite samples are found further on
        mono: Float32 = np.full(len(channels), 1 / len(channels), np.float32) @ channels
    return mono
