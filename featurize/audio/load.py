"""Load an audio file as mono samples at the rate of the settings, equal to `librosa.load`, or raise a `Reject`.

Two readers: libsndfile first, and FFmpeg for what libsndfile refuses or does not read to its end. Headers are
hints: the rate is that of each block, and the length is what was decoded.
"""

import dataclasses
import math
from collections.abc import Callable
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from featurize.audio.av_decoder import AvDecoder
from featurize.audio.decoders import Decoder, Refused
from featurize.audio.mix import Mixer
from featurize.audio.recording import Recording
from featurize.audio.remote_file import Beginning
from featurize.audio.sndfile_decoder import SndfileDecoder
from featurize.audio.source import BytesSource, Source, open_source
from featurize.audio.trailing import later_sound_bytes, unread_bytes
from featurize.dataset.feature_settings import FeatureSettings
from featurize.errors import Reject
from featurize.storage import StoragePath

Float32 = NDArray[np.float32]
OnRemark = Callable[[str], None]

# Peaks relative to full scale, which is 1. Below -100 dBFS, a third of the least significant bit of 16-bit audio,
# a track counts as silent; above LOUDEST_PEAK the power of a frame may overflow float32.
SILENT_PEAK, LOUDEST_PEAK = 1e-5, 1e15
_MUCH_SECONDS = 1.0  # what one reader must leave out before the other is asked
_LITTLE_SECONDS = 0.1  # what may be missing without a remark
_MUCH_TOO_LOUD = 32  # of full scale; float files of loud mixes peak at 2 or 3
_LONGEST_CLAIM = 1e7  # seconds; a header that gives a longer track is not quoted


@dataclasses.dataclass(frozen=True)
class _Reading:
    """What one reader made of a file, or of an excerpt.

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
    position: int
    size: int
    skipped: int
    packets: int

    @property
    def is_partial(self) -> bool:
        """Whether much more sound was promised by the header, or by the size of the file."""
        if self.full:
            return False
        bytes_per_second = (self.size - self.unread) / self.seconds if self.seconds else 0
        return self.claimed > self.seconds + _MUCH_SECONDS or self.unread > _MUCH_SECONDS * bytes_per_second


def load(
    path: StoragePath,
    settings: FeatureSettings,
    on_remark: OnRemark = lambda remark: None,
    fetched: Callable[[], Beginning] | None = None,
) -> Float32:
    """Load a track, or the excerpt that the settings specify.

    Channels are averaged, or one is taken (`channels`), and the result is resampled by soxr at high quality, as in
    `librosa.load`. An excerpt equals `librosa.load(duration=..., offset=...)`.

    Args:
        path: Audio file.
        settings: Feature settings.
        on_remark: Called with what is not as expected, if samples are returned nevertheless: damaged packets that
            were skipped, a length other than that of the header.
        fetched: What was read of a remote file ahead of time, as in `open_source`.

    Returns:
        float32 [samples], mono at `sample_rate`, finite, neither silent nor shorter than a segment.

    Raises:
        Reject: The file cannot be opened or decoded, fails a check, or changed twice while it was read.
        CollectionLostError: A remote file cannot be reached.
    """
    try:
        samples, remark = _load_once(path, settings, fetched)
    except Reject as reject:
        if reject.reason != "changed":
            raise
        # It may have been replaced, or its copying may have come to its end.
        samples, remark = _load_once(path, settings, None)
    if remark:
        on_remark(remark)
    return samples


def _load_once(
    path: StoragePath, settings: FeatureSettings, fetched: Callable[[], Beginning] | None
) -> tuple[Float32, str]:
    with open_source(path, fetched) as source:
        return decode(source, settings)


def decode(source: Source | BytesSource, settings: FeatureSettings) -> tuple[Float32, str]:
    """Load a track from an open source. Returns the samples and the remark, if any; raises as `load`."""
    seconds = settings.excerpt_seconds
    if seconds is None or settings.excerpt_position == "start":
        reading, remark = _read(source, settings, seconds)
        _check(reading, remark, settings)
        return reading.samples, _joined(remark, _too_loud(reading))
    middle = _read_middle(source, settings, seconds)
    if middle and not middle.is_partial:
        _check(middle, "", settings)
        return middle.samples, _too_loud(middle)
    # The track is shorter than the excerpt, or its header has no reliable length: decode all of it, then cut.
    reading, remark = _read(source, settings, None)
    if middle and reading.seconds <= middle.claimed + _MUCH_SECONDS:
        reading = middle
    _check(reading, remark, settings)
    length = min(int(seconds * settings.sample_rate), len(reading.samples))
    start = (len(reading.samples) - length) // 2
    return reading.samples[start : start + length], _joined(remark, _too_loud(reading))


def _read(
    source: Source | BytesSource, settings: FeatureSettings, excerpt_seconds: float | None
) -> tuple[_Reading, str]:
    """Read a track from its beginning with the reader that reads most of it; return the reading and the remark."""
    try:
        first = _read_with(SndfileDecoder, source, settings, excerpt_seconds)
    except Refused as refused:
        try:
            reading = _read_with(AvDecoder, source, settings, excerpt_seconds)
        except Refused as also:
            reasons = f"libsndfile: {refused}; FFmpeg: {also}"
            raise Reject("decode", "not decodable", reasons) from also
        return reading, _joined(_skipped(reading), _cut(reading), _later(reading))
    if not first.is_partial:
        return first, _missing(first)
    try:
        second = _read_with(AvDecoder, source, settings, excerpt_seconds)
    except Refused as refused:
        return first, f"{_stopped(first)}; FFmpeg: {refused}"
    if second.seconds > first.seconds + _MUCH_SECONDS:
        skipped = _skipped(second)
        return second, f"{_stopped(first)}, FFmpeg after {second.seconds:.1f} s" + (f"; {skipped}" * bool(skipped))
    return first, f"{_stopped(first)}, and FFmpeg reads no more"


def _stopped(reading: _Reading) -> str:
    """Describe where libsndfile stopped, and what it left."""
    found = f"libsndfile stopped after {reading.seconds:.1f} s"
    if reading.claimed > reading.seconds + _MUCH_SECONDS:
        claim = f"{reading.claimed:.1f} s" if reading.claimed < _LONGEST_CLAIM else "an impossible length"
        found += f" (the header says {claim})"
    elif reading.unread:
        found += f", {reading.unread:,} of {reading.size:,} bytes before the end"
    return found


def _missing(reading: _Reading) -> str:
    """Describe what is missing of a track that was read to its end: a damaged page, or the end of the file."""
    if reading.full or not reading.seconds + _LITTLE_SECONDS < reading.exact < _LONGEST_CLAIM:
        return ""
    return f"{reading.exact - reading.seconds:.1f} of the {reading.exact:.1f} s in the header are missing"


def _cut(reading: _Reading) -> str:
    """Describe what is missing of a track that FFmpeg read: the length in the header is exact to a second."""
    if reading.full or not reading.seconds + _MUCH_SECONDS < reading.claimed < _LONGEST_CLAIM:
        return ""
    return f"{reading.claimed - reading.seconds:.1f} of the {reading.claimed:.1f} s in the header are missing"


def _skipped(reading: _Reading) -> str:
    if not reading.skipped:
        return ""
    return f"{reading.skipped} of {reading.skipped + reading.packets} packets are damaged and were skipped"


def _later(reading: _Reading) -> str:
    """Describe a second chunk of samples, or a second file, of which FFmpeg reads nothing."""
    if not reading.unread:
        return ""
    return f"{reading.unread:,} of {reading.size:,} bytes are a second file or further samples, and were not read"


def _too_loud(reading: _Reading) -> str:
    """Describe samples far above full scale: integers that a program wrote as floats without dividing them."""
    return f"the samples peak at {reading.peak:.1e} of full scale" if reading.peak > _MUCH_TOO_LOUD else ""


def _joined(*remarks: str) -> str:
    return "; ".join(remark for remark in remarks if remark)


def _read_middle(source: Source | BytesSource, settings: FeatureSettings, seconds: float) -> _Reading | None:
    """Read the excerpt in the middle of the length that the header gives.

    Returns:
        The excerpt; `is_partial` if the file is much longer than its header says. None if the header gives no
        length, the file is shorter than that, or libsndfile cannot seek in it.
    """
    try:
        decoder = SndfileDecoder(source)
    except Refused:
        return None
    with closing(decoder):
        offset = (decoder.frames - int(seconds * decoder.rate)) // 2
        begin = source.tell()
        if offset <= 0 or not decoder.seek(offset):
            return None
        try:
            reading = _record(decoder, source, settings, seconds)
        except Refused:
            return None
        if not reading.full:
            return None
        # By the header, as many bytes follow the excerpt as precede it. Twice as many are a longer file, if they
        # are not tags or pictures.
        source.seek(reading.position)
        before = (reading.position - begin) * offset / (offset + seconds * decoder.rate)
        if reading.size - reading.position > 2 * before and unread_bytes(source) > 2 * before:
            return dataclasses.replace(reading, full=False, unread=reading.size)
        return reading


def _read_with(
    reader: Callable[[Source | BytesSource], Decoder],
    source: Source | BytesSource,
    settings: FeatureSettings,
    excerpt_seconds: float | None,
) -> _Reading:
    with closing(reader(source)) as decoder:
        return _record(decoder, source, settings, excerpt_seconds)


def _record(
    decoder: Decoder, source: Source | BytesSource, settings: FeatureSettings, excerpt_seconds: float | None
) -> _Reading:
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
        # FFmpeg reads a file in the order that its container prescribes: where it ends means nothing.
        unread_by = unread_bytes if decoder.reader == "libsndfile" else later_sound_bytes
        unread = 0 if full else unread_by(source)
        size = source.seek(0, 2)
        samples, seconds = recording.samples(), recording.seconds
        return _Reading(
            samples=samples,
            peak=float(np.maximum(-recording.low, recording.high)) if len(samples) else 0.0,
            mixer=mixer,
            reader=decoder.reader,
            seconds=seconds,
            full=full,
            claimed=decoder.frames / decoder.rate if decoder.rate else 0,
            exact=decoder.exact_frames / decoder.rate if decoder.rate else 0,
            unread=unread,
            position=position,
            size=size,
            skipped=decoder.skipped,
            packets=decoder.packets,
        )


def _check(reading: _Reading, remark: str, settings: FeatureSettings) -> None:
    """Raise a Reject if a track is short, silent, not finite, or cancels when its channels are averaged."""
    more = f" ({remark})" if remark else ""
    if len(reading.samples) < settings.segment_samples:
        found, needed = len(reading.samples) / settings.sample_rate, settings.segment_seconds
        raise Reject("check", "too short", f"{found:.3f} s, one segment needs {needed:.3f} s{more}")
    peak = reading.peak
    if not math.isfinite(peak):
        raise Reject("check", "not finite", f"the decoded samples contain NaN or infinity{more}")
    if peak > LOUDEST_PEAK:
        raise Reject("check", "not finite", f"peak {peak:.1e} of full scale: its power overflows{more}")
    channel_peak = reading.mixer.channel_peak
    if channel_peak >= SILENT_PEAK and reading.mixer.cancels(peak):
        raise Reject(
            "check",
            "channels cancel",
            f"the channels peak at {channel_peak:.1e} of full scale, their mean at {abs(peak):.1e}: one is the "
            f"inverse of another{more}",
        )
    if peak < SILENT_PEAK:
        raise Reject(
            "check", "silent", f"peak {abs(peak):.1e} of full scale, expected {SILENT_PEAK:.0e} or more{more}"
        )
