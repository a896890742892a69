"""Ranges of the feature settings, and which of their combinations are impossible.

Used for settings that are typed and for those that were stored with a dataset or a model.
"""

from typing import Annotated, Literal

from pydantic import Field

from featurize.mel_scale import empty_bands

DELTA_FRAMES = 9  # width of the filter of librosa.feature.delta
# Of the float32 features of a track, of which a worker holds eight; and of the frames that they are computed from.
_MOST_TRACK_BYTES = 40 << 20
_MOST_FRAME_BYTES = 192 << 20

Kind = Literal["mfcc", "log_mel"]
Store = Literal["float32", "float16"]
SampleRate = Annotated[int, Field(strict=True, ge=1000, le=192_000)]
FftSize = Annotated[int, Field(strict=True, ge=16, le=1 << 16)]
HopLength = Annotated[int, Field(strict=True, ge=1, le=1 << 16)]
MelBands = Annotated[int, Field(strict=True, ge=1, le=1024)]
Deltas = Annotated[int, Field(strict=True, ge=0, le=2)]
# More than 80 dB below the loudest band, the rounding of float32 in the FFT is more than 0.002 dB.
TopDb = Annotated[float, Field(gt=0, le=80)]
Frequency = Annotated[float, Field(ge=0, le=96_000)]


def feature_count(kind: Kind, n_mels: int, n_mfcc: int, deltas: int) -> int:
    """Return the number of features of a frame: coefficients or bands, then their deltas."""
    return (n_mfcc if kind == "mfcc" else n_mels) * (1 + deltas)


def frame_count(segment_samples: int, hop_length: int) -> int:
    """Return the number of frames of a segment, as `librosa.stft` with `center=True` counts them."""
    return 1 + segment_samples // hop_length


def impossible(
    *,
    kind: Kind,
    sample_rate: int,
    n_fft: int,
    hop_length: int,
    n_mels: int,
    n_mfcc: int,
    f_min: float,
    f_max: float | None,
    deltas: int,
    segment_samples: int,
    segments_per_track: int,
    excerpt_seconds: float | None,
) -> list[str]:
    """Return what is impossible in a combination of settings that are each in their range.

    Args:
        kind: Kind of the features.
        sample_rate: Hz.
        n_fft: Samples per frame.
        hop_length: Samples between successive frames.
        n_mels: Number of mel bands.
        n_mfcc: Coefficients per frame; of no meaning for log-mel features.
        f_min: Lower edge of the first mel band, in Hz.
        f_max: Upper edge of the last mel band, in Hz; None for half of the sample rate.
        deltas: Number of derivatives.
        segment_samples: Samples per segment.
        segments_per_track: Segments per track.
        excerpt_seconds: Length of the excerpt of each track; None for the whole track.

    Returns:
        One sentence without a period for each problem.
    """
    problems = []
    seconds = segment_samples / sample_rate
    frames = frame_count(segment_samples, hop_length)
    if n_fft % 2:
        problems.append(f"n_fft = {n_fft} is odd, expected an even number of samples")
    if hop_length > n_fft:
        problems.append(f"hop_length = {hop_length} is more than n_fft = {n_fft}: samples between frames are lost")
    top = sample_rate / 2 if f_max is None else f_max
    if top > sample_rate / 2:
        problems.append(f"f_max = {top:g} Hz is more than half of sample_rate = {sample_rate} Hz")
    if f_min >= top:
        problems.append(f"f_min = {f_min:g} Hz must be less than f_max, which is {top:g} Hz")
    elif empty := empty_bands(sample_rate, n_fft, n_mels, f_min, top):
        problems.append(_describe_empty(empty, sample_rate, n_fft, n_mels, f_min, top))
    if kind == "mfcc" and n_mfcc > n_mels:
        problems.append(f"n_mfcc = {n_mfcc} is more than n_mels = {n_mels}")
    if segment_samples < n_fft:
        problems.append(f"a segment has {segment_samples} samples, less than n_fft = {n_fft}")
    if deltas and frames < DELTA_FRAMES:
        problems.append(f"deltas = {deltas} needs segments of {DELTA_FRAMES} frames or more; they have {frames}")
    if excerpt_seconds is not None and int(excerpt_seconds * sample_rate) < segment_samples:
        problems.append(f"excerpt_seconds = {excerpt_seconds:g} is less than a segment, which has {seconds:.5g} s")
    features = feature_count(kind, n_mels, n_mfcc, deltas)
    size = 4 * segments_per_track * features * frames
    if size > _MOST_TRACK_BYTES:
        problems.append(
            f"the features of a track take {size / 1e6:,.0f} MB (segments_per_track = {segments_per_track}, each "
            f"{features} x {frames}), expected at most {_MOST_TRACK_BYTES / 1e6:.0f} MB"
        )
    # Frames that reach into the padding are computed for each segment, from its samples alone.
    padded = 2 * -(-n_fft // (2 * hop_length))
    size = 4 * segments_per_track * (frames * n_mels + padded * n_fft)
    if size > _MOST_FRAME_BYTES:
        problems.append(
            f"the frames of a track take {size / 1e6:,.0f} MB (segments_per_track = {segments_per_track}, each "
            f"{frames} frames of {n_mels} mel bands), expected at most {_MOST_FRAME_BYTES / 1e6:.0f} MB; a longer "
            "hop_length makes fewer"
        )
    return problems


def _describe_empty(
    empty: list[int], sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float
) -> str:
    """Describe empty mel bands and what to set instead."""
    fewer = next((n for n in range(n_mels - 1, 0, -1) if not empty_bands(sample_rate, n_fft, n, f_min, f_max)), 0)
    longer = 2 * n_fft
    while longer < 1 << 16 and empty_bands(sample_rate, longer, n_mels, f_min, f_max):
        longer *= 2
    advice = [f"n_mels of {fewer} or less"] if fewer else []
    advice += [f"an n_fft of {longer} or more"]
    return (
        f"{len(empty)} of {n_mels} mel bands are empty: the frequencies of an n_fft of {n_fft} are "
        f"{sample_rate / n_fft:.4g} Hz apart, and the bands are narrower; set {' or '.join(advice)}"
    )
