"""Mono samples that one decoder reads from a file, at the rate of the settings, and their share of the file."""

import dataclasses
from collections.abc import Callable
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from featurize.audio.decoders import Decoder
from featurize.audio.mix import Mixer
from featurize.audio.recording import Recording
from featurize.audio.source import BytesSource, Source
from featurize.dataset.feature_settings import FeatureSettings
from featurize.errors import Reject

Float32 = NDArray[np.float32]

MUCH_SECONDS = 1.0  # what one reader must leave out before the other is asked


@dataclasses.dataclass(frozen=True)
class Reading:
    """Samples that one decoder has read from a file or an excerpt, and their length.

    Attributes:
        samples: float32 [samples], mono at `sample_rate`.
        peak: Peak of the mix; NaN if a sample is NaN.
        mixer: Has the peak of the channels.
        reader: Name of the library.
        seconds: Length.
        full: Whether an excerpt was asked for and is complete.
        claimed: Length of the file by its header, in seconds; 0 if it gives none.
        exact: The same, if the header of an intact file is exact; 0 if it is not.
        unread: Bytes behind the last sample that may be sound.
        missing: Bytes that the file has less than its header says.
        position: Position in the file after the last sample.
        size: Bytes of the file.
        skipped: Damaged packets that were passed over.
        packets: Packets that were decoded.
    """

    samples: Float32
    peak: float
    mixer: Mixer
    reader: str
    seconds: float
    full: bool
    claimed: float
    exact: float
    unread: int
    missing: int
    position: int
    size: int
    skipped: int
    packets: int

    @property
    def is_partial(self) -> bool:
        """Whether much more sound was promised by the header, or by the size of the file."""
        if self.full:
            return False
        return self.claimed > self.seconds + MUCH_SECONDS or self.is_much(self.unread)

    def is_much(self, size: int) -> bool:
        """Return whether a number of bytes is more than a second of this file."""
        bytes_per_second = (self.size - self.unread) / self.seconds if self.seconds else 0
        return size > MUCH_SECONDS * bytes_per_second


def read_with(
    reader: Callable[[Source | BytesSource], Decoder],
    source: Source | BytesSource,
    settings: FeatureSettings,
    excerpt_seconds: float | None,
) -> Reading:
    """Open a decoder on a source and read the track or the excerpt; arguments and errors as in `record`."""
    with closing(reader(source)) as decoder:
        return record(decoder, source, settings, excerpt_seconds)


def record(
    decoder: Decoder, source: Source | BytesSource, settings: FeatureSettings, excerpt_seconds: float | None
) -> Reading:
    """Decode from the current position to the end of the excerpt, or to the end of the track.

    Args:
        decoder: Decoder of the track.
        source: What it reads.
        settings: Feature settings.
        excerpt_seconds: Length of the excerpt in seconds; None to decode to the end of the track.

    Raises:
        Refused: The decoder does not read it.
        Reject: The track is too long.
    """
    limit = settings.max_seconds if excerpt_seconds is None else excerpt_seconds
    mixer = Mixer(settings.channels)
    full = False
    with closing(Recording(settings.sample_rate)) as recording:
        for rate, channels in decoder.blocks():
            room = recording.room(limit, rate)
            block = mixer.mix(channels)
            if len(block) > room and excerpt_seconds is None:
                raise Reject("check", "too long", f"more than {settings.max_seconds:g} s")
            recording.add(block[: max(room, 0)], rate)
            if len(block) >= room and excerpt_seconds is not None:
                full = True
                break
        position = source.tell()
        unread, missing = (0, 0) if full else (decoder.unread_bytes(), decoder.missing_bytes())
        size = source.seek(0, 2)
        samples, seconds = recording.samples(), recording.seconds
        return Reading(
            samples=samples,
            peak=float(np.maximum(-recording.low, recording.high)) if len(samples) else 0.0,
            mixer=mixer,
            reader=decoder.reader,
            seconds=seconds,
            full=full,
            claimed=decoder.frames / decoder.rate if decoder.rate else 0,
            exact=decoder.exact_frames / decoder.rate if decoder.rate else 0,
            unread=unread,
            missing=missing,
            position=position,
            size=size,
            skipped=decoder.skipped,
            packets=decoder.packets,
        )
