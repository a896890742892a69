"""The second reader: FFmpeg through PyAV, for what libsndfile refuses or stops in. It opens nothing else."""

import io
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from featurize.audio.decoders import Block, Refused, refuse_out_of_range
from featurize.audio.promised import promised_bytes
from featurize.audio.source import BytesSource, Source
from featurize.audio.trailing import later_sound_bytes, unread_bytes
from featurize.errors import Reject
from featurize.ffmpeg import open_container

MOST_STREAMS = 64  # of a container, of all kinds
_PROBE_SECONDS = 60.0  # to find the streams of a file, and to read one packet
# Lossless codecs whose frames have checksums, which FFmpeg compares only if asked to; it would decode the damage.
_CHECKED_CODECS = ("ape", "flac", "tak", "truehd", "tta", "wavpack")
# A damaged packet costs itself. Where most packets are damaged, what is left between them is not the recording, or
# the file was never audio: of noise, FFmpeg makes packets as well.
_EARLY_SKIPPED = 1000  # packets after which a file is given up before its end
_FAILED_READS = 16  # in succession; a container that cannot be read on reports the same error for ever


# Containers whose header gives the length; FFmpeg estimates that of others from their size or their last packets.
_WITH_LENGTH = ("ape", "asf", "caf", "flv", "mov", "matroska", "ogg", "tta", "wv")
# Containers of sound only, whose packets follow each other; FFmpeg does not read a second file behind the first.
_IN_ORDER = ("tta", "voc", "wv")
_FLV, _NEAR = b"FLV\1", 64  # the header of a second FLV file, and how near it is behind the last packet
_TAGGED_LENGTH = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


class AvDecoder:
    """AAC in its containers, WMA, ALAC, APE, the sound of films and other formats of FFmpeg, see Decoder.

    Of several audio streams it reads the one that the file marks as default, otherwise the first.
    """

    reader = "FFmpeg"
    exact_frames = 0  # the position of a frame is an estimate in these formats

    def __init__(self, source: Source | BytesSource) -> None:
        """Open a file from its beginning, or raise Refused."""
        import av  # slow to import

        self._av = av
        self._resampler: Any = None
        self._resampled: object = None  # what the resampler converts: format, layout and rate
        self.packets = self.skipped = 0
        self._source = source
        source.seek(0)
        try:
            self._container: Any = open_container(source, _PROBE_SECONDS)
        except av.ExitError as error:
            raise _too_slow() from error
        except MemoryError as error:
            raise Refused("its headers and tags take too much memory") from error
        except (av.FFmpegError, ValueError) as error:
            raise Refused("it recognizes no audio format") from error
        try:
            streams = self._container.streams
            if len(streams) > MOST_STREAMS:
                raise Refused(f"it has {len(streams)} streams, expected at most {MOST_STREAMS}")
            if not streams.audio:
                raise Refused("it holds no audio")
            default = (stream for stream in streams.audio if stream.disposition & av.stream.Disposition.default)
            self._stream = next(default, streams.audio[0])
            codec = self._stream.codec_context
            if codec is None:
                raise Refused("it has no decoder for the codec")
            if codec.name in _CHECKED_CODECS:
                codec.options = {"err_detect": "crccheck+explode"}
            self.rate: int = codec.sample_rate or 0
            if self.rate:
                refuse_out_of_range(self.rate, codec.layout.nb_channels)
            self.frames = int(self._promised_seconds() * self.rate)
            self._end = 0  # position in the file after the last packet
        except Refused:
            self.close()
            raise

    def seek(self, frame: int) -> bool:
        """Do not seek: in these formats the position of a frame is an estimate."""
        return False

    def blocks(self) -> Iterator[Block]:
        """Yield all blocks, see Decoder. Rate, channels and format are those of each frame, not of the header."""
        for packet in self._read_packets():
            if not packet.duration and packet.size and self._needs_block_length():
                raise Refused("its header gives no length for its blocks")
            try:
                blocks = [self._convert(frame) for frame in packet.decode()]
            except self._av.ExitError as error:
                raise _too_slow() from error
            except (self._av.FFmpegError, ValueError, Refused):
                self._skip()
            else:
                self.packets += bool(blocks)
                yield from blocks
        if self.skipped > self.packets:
            raise self._mostly_damaged()
        if not self.packets:
            raise Refused(f"its {self._stream.codec_context.name} stream holds no samples")

    def unread_bytes(self) -> int:
        """Return the size of a second file or of further samples, see Decoder; where FFmpeg ends means nothing."""
        self._source.seek(self._end)
        if self._container.format.name in _IN_ORDER:
            return unread_bytes(self._source)
        if self._container.format.name == "flv":
            return unread_bytes(self._source) if _FLV in self._source.read(_NEAR) else 0
        return later_sound_bytes(self._source)

    def missing_bytes(self) -> int:
        """Return how many bytes less the file has than its header says."""
        return max(promised_bytes(self._source) - self._source.seek(0, io.SEEK_END), 0)

    def _promised_seconds(self) -> float:
        """Return the length of the stream by the header of its container, 0 if that gives none."""
        if self._container.format.name.split(",")[0] not in _WITH_LENGTH:
            return 0.0
        stream = self._stream
        begin = float((stream.start_time or 0) * stream.time_base)
        if tagged := _TAGGED_LENGTH.match(stream.metadata.get("DURATION", "")):  # Matroska
            hours, minutes, seconds = (float(part) for part in tagged.groups())
            return 3600 * hours + 60 * minutes + seconds - begin
        if self._container.format.name.startswith("mov"):
            return float(stream.duration * stream.time_base) if stream.duration else 0.0
        # The length of the container is that of its longest stream.
        is_only = len(self._container.streams.audio) == 1 and not self._container.streams.video
        duration = self._container.duration
        return duration / self._av.time_base - begin if is_only and duration else 0.0

    def _needs_block_length(self) -> bool:
        """Return whether this is ADPCM in WAV, of which FFmpeg makes noise if it cuts the blocks at random."""
        codec = self._stream.codec_context.name
        return self._container.format.name == "wav" and codec in ("adpcm_ima_wav", "adpcm_ms")

    def _read_packets(self) -> Iterator[Any]:
        """Yield the packets of the stream, and read on after an error."""
        failed = 0
        while failed < _FAILED_READS:
            try:
                for packet in self._container.demux(self._stream):
                    failed = 0
                    if packet.size and packet.pos is not None:
                        self._end = max(self._end, packet.pos + packet.size)
                    yield packet
                return
            except self._av.ExitError as error:
                raise _too_slow() from error
            except IndexError:
                # At the end, PyAV flushes all streams in their order, also those that began in mid-file, which it
                # does not know. This stream is before them.
                return
            except (self._av.FFmpegError, ValueError):
                if not failed:
                    self._skip()
                failed += 1

    def _convert(self, frame: Any) -> Block:
        """Return the samples of a frame as float32.

        They are resampled into one plane of all channels. If each channel has its own, PyAV counts the planes up
        to a null pointer, which a frame of 8 or more channels need not have, and reads memory beyond the frame.
        """
        refuse_out_of_range(frame.sample_rate, frame.layout.nb_channels)
        kind = (frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate)
        if kind != self._resampled:
            self._resampler = self._av.AudioResampler(format="flt", layout=frame.layout, rate=frame.sample_rate)
            self._resampled = kind
        parts = [np.asarray(part.to_ndarray(), np.float32) for part in self._resampler.resample(frame)]
        samples = (parts[0] if len(parts) == 1 else np.hstack(parts)).reshape(-1, frame.layout.nb_channels)
        return Block(frame.sample_rate, np.ascontiguousarray(samples.T))

    def _skip(self) -> None:
        """Count a damaged packet; raise Refused if that makes too many."""
        self.skipped += 1
        if self.skipped > max(_EARLY_SKIPPED, self.packets):
            raise self._mostly_damaged()

    def _mostly_damaged(self) -> Refused:
        return Refused(f"{self.skipped} of {self.skipped + self.packets} packets are damaged")

    def close(self) -> None:
        """Close the file."""
        self._container.close()


def _too_slow() -> Reject:
    return Reject("decode", "timed out", f"FFmpeg was not done after {_PROBE_SECONDS:g} s")
