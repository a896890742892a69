"""The first reader: libsndfile, whose samples are those of `librosa.load`."""

import io
import re
from collections.abc import Iterator

import numpy as np
import soundfile

from featurize.audio.decoders import Block, Refused, refuse_out_of_range
from featurize.audio.ogg_chain import Link, next_link
from featurize.audio.source import BytesSource, Source
from featurize.audio.trailing import unread_bytes

# Blocks are bounded in samples and in seconds, so that no allocation depends on what a header claims.
_BLOCK_SAMPLES = 1 << 18
_BLOCK_SECONDS = 8
_SMALLER = 32  # factor by which blocks shrink near damage
_UNKNOWN_LENGTH = 1 << 60  # frames; libsndfile says 2^63 - 1 of streams whose header gives no length
# Their headers give the length to the sample.
_EXACT = ("AIFF", "AU", "FLAC", "OGG", "RF64", "W64", "WAV", "WAVEX")
# What libsndfile notes of a file that ends before its samples do: bytes by the header, and those that are there.
_CUT = re.compile(r"^ *(?:data|SSND|riff|Data Size) +: (\d+) \(should be (\d+)\)", re.MULTILINE)
# In RF64 it notes frames: those that are there, and those by the header.
_CUT_RF64 = re.compile(r"Calculated frame count \d+ does not match value from 'ds64' chunk of (\d+)")
_UNKNOWN_BYTES = 0x7FFF0000  # programs that write to a pipe say about this or more

# Behind an ID3v2 tag libsndfile refuses some of these; of others it loses as many bytes as the tag has at the end.
# Of an MP3 without a Xing header it estimates the length from the size, that of the tag included.
_BEHIND_TAGS = re.compile(rb"RIFF|RIFX|RF64|FORM|OggS|caff|\xff[\xe0-\xff]")
_MOST_TAGS = 16


class SndfileDecoder:
    """MP3, FLAC, Ogg Vorbis, Opus, WAV, AIFF and the other formats of libsndfile, see Decoder."""

    reader = "libsndfile"
    packets = skipped = 0  # libsndfile stops at damage, or passes over it without a word

    def __init__(self, source: Source | BytesSource) -> None:
        """Open a file from its beginning, or raise Refused."""
        self._source = source
        self._link = _tags_before(source)  # where the file, or the current stream of a chained Ogg file, begins
        try:
            self._file = self._open(self._link)
        except soundfile.LibsndfileError as error:
            raise Refused(error.error_string.rstrip(".")) from error
        self._position = 0  # next frame
        self.rate: int = self._file.samplerate
        self.frames: int = self._file.frames if self._file.frames < _UNKNOWN_LENGTH else 0
        self.exact_frames = self._promised_frames() if self._file.format in _EXACT else 0
        try:
            refuse_out_of_range(self.rate, self._file.channels)
        except Refused:
            self.close()
            raise

    def _promised_frames(self) -> int:
        """Return the length by the header; libsndfile's own is that of the file, if it ends before."""
        notes = self._file.extra_info
        if self._file.format == "RF64":
            cut = _CUT_RF64.search(notes)
            return int(cut[1]) if cut else self.frames
        if cut := _CUT.search(notes):
            promised, there = int(cut[1]), int(cut[2])
            if there and promised < _UNKNOWN_BYTES:
                return self.frames * promised // there
        return self.frames

    def seek(self, frame: int) -> bool:
        """Seek to a frame, as `librosa.load(offset=...)` does."""
        try:
            self._position = self._file.seek(frame)
            return self._position == frame
        except soundfile.LibsndfileError:
            return False

    def blocks(self) -> Iterator[Block]:
        """Yield the remaining blocks, see Decoder; those of a chained Ogg file one stream after the other."""
        yield from self._blocks_of_stream()
        while self._file.format == "OGG" and self._open_next_link():
            try:
                yield from self._blocks_of_stream()
            except Refused:
                return

    def unread_bytes(self) -> int:
        """Return the bytes behind the last sample that may be sound, see Decoder."""
        return unread_bytes(self._source)

    def missing_bytes(self) -> int:
        """Return 0: `exact_frames` tells what is missing."""
        return 0

    def _blocks_of_stream(self) -> Iterator[Block]:
        rate = self._file.samplerate
        frames = max(1, min(_BLOCK_SAMPLES // self._file.channels, _BLOCK_SECONDS * rate))
        begin = self._position
        while True:
            try:
                block = np.empty((frames, self._file.channels), np.float32)
                # libsndfile returns no more than the header promises, but decodes what follows: of joined FLAC
                # files that is the header of the second one, which it reports as damage.
                while len(read := self._file.read(out=block[: self._promised(frames)])):
                    self._position += len(read)
                    yield Block(rate, read.T)
                return
            except soundfile.LibsndfileError as error:
                # libsndfile returns nothing of a block with damage in it: read up to the damage in smaller blocks.
                frames //= _SMALLER
                if frames and self._reopen():
                    continue
                if self._position == begin:
                    raise Refused(error.error_string.rstrip(".")) from error
                return

    def _promised(self, frames: int) -> int:
        """Return how many of the next frames the header promises; all if it does not give the length."""
        length: int = self._file.frames
        return min(frames, max(length - self._position, 0)) if length else frames

    def _reopen(self) -> bool:
        """Reopen the file at the current position; return whether that worked."""
        self._file.close()
        self._file = self._open(self._link)
        return self.seek(self._position)

    def _open_next_link(self) -> bool:
        """Open the next stream of a chained Ogg file; return whether there is one."""
        position = self._source.tell()
        if position < self._source.seek(0, io.SEEK_END) and (link := next_link(self._source, self._link)):
            try:
                file = self._open(link)
                refuse_out_of_range(file.samplerate, file.channels)
            except (soundfile.LibsndfileError, Refused):
                self._source.seek(position)
                return False
            self._file.close()
            self._file, self._link, self._position = file, link, 0
            return True
        self._source.seek(position)
        return False

    def _open(self, begin: int) -> "_ForwardFile":
        source = Link(self._source, begin) if begin else self._source
        source.seek(0)
        return _ForwardFile(source)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _tags_before(source: Source | BytesSource) -> int:
    """Return the length of the ID3v2 tags before a file of one of the formats above, else 0."""
    begin = 0
    for _ in range(_MOST_TAGS):
        source.seek(begin)
        header = source.read(10)
        if header[:3] != b"ID3" or len(header) < 10:
            return begin if _BEHIND_TAGS.match(header) else 0
        begin += 10 + sum((byte & 0x7F) << 7 * (3 - place) for place, byte in enumerate(header[6:]))
    return 0


class _ForwardFile(soundfile.SoundFile):
    """A file that is read forward only.

    After each block, soundfile seeks to the current position. For MP3 that restarts the decoder in the middle of
    its bit reservoir, and at low bit rates the next samples are wrong. A file that is not seekable avoids it.
    """

    def seekable(self) -> bool:
        return False
