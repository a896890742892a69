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

from featurize.audio import remarks
from featurize.audio.av_decoder import AvDecoder
from featurize.audio.decoders import Refused
from featurize.audio.reading import MUCH_SECONDS, Reading, read_with, record
from featurize.audio.remote_file import Beginning
from featurize.audio.sndfile_decoder import SndfileDecoder
from featurize.audio.source import BytesSource, Source, open_source
from featurize.audio.trailing import unread_bytes
from featurize.dataset.feature_settings import FeatureSettings
from featurize.errors import Reject
from featurize.storage import StoragePath

Float32 = NDArray[np.float32]
OnRemark = Callable[[str], None]

# Peaks relative to full scale, which is 1. Below -100 dBFS, a third of the least significant bit of 16-bit audio,
# a track counts as silent; above LOUDEST_PEAK the power of a frame may overflow float32.
SILENT_PEAK, LOUDEST_PEAK = 1e-5, 1e15


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
        return reading.samples, remarks.joined(remark, remarks.too_loud(reading))
    middle = _read_middle(source, settings, seconds)
    if middle and not middle.is_partial:
        _check(middle, "", settings)
        return middle.samples, remarks.too_loud(middle)
    # The track is shorter than the excerpt, or its header has no reliable length: decode all of it, then cut.
    reading, remark = _read(source, settings, None)
    if middle and reading.seconds <= middle.claimed + MUCH_SECONDS:
        reading = middle
    _check(reading, remark, settings)
    length = min(int(seconds * settings.sample_rate), len(reading.samples))
    start = (len(reading.samples) - length) // 2
    return reading.samples[start : start + length], remarks.joined(remark, remarks.too_loud(reading))


def _read(
    source: Source | BytesSource, settings: FeatureSettings, excerpt_seconds: float | None
) -> tuple[Reading, str]:
    """Read a track from its beginning with the reader that reads most of it; return the reading and the remark."""
    try:
        first = read_with(SndfileDecoder, source, settings, excerpt_seconds)
    except Refused as refused:
        try:
            reading = read_with(AvDecoder, source, settings, excerpt_seconds)
        except Refused as also:
            reasons = f"libsndfile: {refused}; FFmpeg: {also}"
            raise Reject("decode", "not decodable", reasons) from also
        return reading, remarks.joined(remarks.skipped(reading), remarks.cut(reading), remarks.later(reading))
    if not first.is_partial:
        return first, remarks.missing(first)
    try:
        second = read_with(AvDecoder, source, settings, excerpt_seconds)
    except Refused as refused:
        return first, f"{remarks.stopped(first)}; FFmpeg: {refused}"
    if second.seconds > first.seconds + MUCH_SECONDS:
        return second, remarks.joined(
            f"{remarks.stopped(first)}, FFmpeg after {second.seconds:.1f} s", remarks.skipped(second)
        )
    return first, f"{remarks.stopped(first)}, and FFmpeg reads no more"


def _read_middle(source: Source | BytesSource, settings: FeatureSettings, seconds: float) -> Reading | None:
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
            reading = record(decoder, source, settings, seconds)
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


def _check(reading: Reading, remark: str, settings: FeatureSettings) -> None:
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
