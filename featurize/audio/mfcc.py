"""Samples to segments of MFCC or log-mel features equal to librosa's; STFT frames of a track are computed once.

The segments of a short track overlap by 90 %, and `librosa.feature.mfcc` on each of them would transform the same
frames again and again. Here segments share frames; only the frames at each edge of a segment that reach into
librosa's zero padding, two with the default settings, are computed separately.
"""

import dataclasses
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from featurize.audio.filters import Filters
from featurize.dataset.feature_settings import FeatureSettings
from featurize.feature_rules import DELTA_FRAMES

AMIN = 1e-10  # power floor of librosa.power_to_db
_SAMPLES_AT_ONCE = 48 * 2048  # in frames; intermediate results of as many stay in the cache

Float32 = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class _Edges:
    """Which frames of a segment reach into librosa's zero padding; the others are computed once for the track.

    Frame t of a segment is centered at its sample t * hop_length and extends n_fft / 2 samples to each side.

    Attributes:
        left: Number of frames that begin before the segment.
        inner: Number of frames that lie inside of it.
        right: Number of frames that end after it.
        offset: First sample of a segment's first inner frame, relative to the segment.
    """

    left: int
    inner: int
    right: int
    offset: int

    @classmethod
    def of(cls, settings: FeatureSettings) -> "_Edges":
        half, hop = settings.n_fft // 2, settings.hop_length
        left = -(-half // hop)
        inner = (settings.segment_samples - half) // hop + 1 - left
        return cls(left, inner, settings.frames - left - inner, left * hop - half)


def segment_starts(n_samples: int, settings: FeatureSettings) -> NDArray[np.int64]:
    """Place the segments of a track evenly, on whole hops.

    Args:
        n_samples: Length of the track in samples, at least `segment_samples`.
        settings: Feature settings.

    Returns:
        int64 [segments], the first sample of each segment: the first segment starts at 0, the last ends less than
        one hop before the end of the track. A very short track repeats segments, so that all tracks have equal
        weight.

    Raises:
        ValueError: The track is shorter than one segment.
    """
    segments, hop = settings.segments_per_track, settings.hop_length
    room = n_samples - settings.segment_samples
    if room < 0:
        raise ValueError(
            f"expected at least {settings.segment_samples} samples for one segment, found {n_samples}"
        )
    even = np.arange(segments, dtype=np.int64) * room // max(segments - 1, 1)
    return even // hop * hop


def segment_features(
    samples: Float32, starts: NDArray[np.int64], filters: Filters, settings: FeatureSettings
) -> Float32:
    """Compute the features of each segment as librosa would, sharing the frames between segments.

    For each start s and y = samples[s : s + segment_samples], equal to librosa 0.11 up to the rounding of float32:
    for MFCC `librosa.feature.mfcc(y=y, ...)` and for log-mel features
    `librosa.power_to_db(librosa.feature.melspectrogram(y=y, ...))`, then `librosa.feature.delta` of them. `top_db`
    is relative to each segment's own maximum. Frames that two segments share are the same bit for bit as long as
    the clamp treats them alike.

    Args:
        samples: float32 [n_samples], mono, at `sample_rate`.
        starts: int64 [segments], in samples, multiples of `hop_length`, each followed by a whole segment.
        filters: From `Filters.from_librosa(settings)`.
        settings: Feature settings.

    Returns:
        float32 [segments, features, frames], in dB; of MFCC, in dB after the DCT.
    """
    hop, edges = settings.hop_length, _Edges.of(settings)
    hops = starts // hop
    # Shared frame j of the track covers n_fft samples from j * hop_length + offset.
    inner = _distinct(hops[:, None] + np.arange(edges.inner))
    padded = _edge_frames(samples, starts, settings, edges)
    shared = padded[:0]
    if edges.inner:
        shared = np.lib.stride_tricks.sliding_window_view(samples[edges.offset :], settings.n_fft)[::hop]
    log_mel = np.empty((len(inner) + len(padded), settings.n_mels), np.float32)
    _write_log_mel(shared, inner, filters, log_mel[: len(inner)])
    _write_log_mel(padded, np.arange(len(padded)), filters, log_mel[len(inner) :])
    frames = _segment_frames(inner, hops, edges)
    floors = log_mel.max(axis=1)[frames].max(axis=1) - np.float32(settings.top_db)
    if settings.kind == "log_mel":
        features = _clamped(log_mel, frames, floors)
    else:
        features = _clamped_cepstra(log_mel, frames, floors, settings.n_mfcc)
    return _with_deltas(features, settings.deltas)


def delta_filters(settings: FeatureSettings) -> list[Float32]:
    """Return `librosa.feature.delta` of each order as a matrix over the frames, float32 [frames, frames].

    The derivative of features [features, frames] is their product with the matrix.
    """
    identity = np.eye(settings.frames)
    return [_delta(identity, order).astype(np.float32) for order in range(1, settings.deltas + 1)]


def _clamped(log_mel: Float32, frames: NDArray[np.int64], floors: Float32) -> Float32:
    """Return the log-mel features of each segment above its floor, float32 [segments, n_mels, frames]."""
    features = np.empty((len(frames), log_mel.shape[1], frames.shape[1]), np.float32)
    for segment, indices, floor in zip(features, frames, floors, strict=True):
        np.maximum(log_mel[indices].T, floor, out=segment)
    return features


def _clamped_cepstra(log_mel: Float32, frames: NDArray[np.int64], floors: Float32, n_mfcc: int) -> Float32:
    """Return the MFCC of each segment, float32 [segments, n_mfcc, frames]."""
    mfcc = np.empty((len(frames), n_mfcc, frames.shape[1]), np.float32)
    cepstrum, quietest = _dct(log_mel, n_mfcc), log_mel.min(axis=1)
    # Overlapping segments often share their loudest frame, and then the clamped frames too.
    for floor in np.unique(floors):
        alike = np.flatnonzero(floors == floor)
        clamped = _distinct(frames[alike])
        clamped = clamped[quietest[clamped] < floor]
        raised = cepstrum.copy()
        raised[clamped] = _dct(np.maximum(log_mel[clamped], floor), n_mfcc)
        for i in alike:
            mfcc[i] = raised[frames[i]].T
    return mfcc


def _with_deltas(features: Float32, deltas: int) -> Float32:
    """Append the derivatives to the features of each segment, along the axis of the features."""
    if not deltas:
        return features
    return np.concatenate([features, *(_delta(features, order) for order in range(1, deltas + 1))], axis=1)


def _delta(features: NDArray[Any], order: int) -> NDArray[Any]:
    """Return a derivative along the last axis, by the call that `librosa.feature.delta` makes."""
    # Imported here: it takes a third of a second, and only these settings need it.
    from scipy.signal import savgol_filter

    derivative: NDArray[Any] = savgol_filter(
        features, DELTA_FRAMES, deriv=order, axis=-1, polyorder=order, mode="interp"
    )
    return derivative


def _distinct(indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the distinct values of small non-negative integers in ascending order, int64 [values]."""
    present = np.zeros(int(indices.max(initial=0)) + 1, np.bool_)
    present[indices] = True
    return np.flatnonzero(present)


def _edge_frames(samples: Float32, starts: NDArray[np.int64], settings: FeatureSettings, edges: _Edges) -> Float32:
    """Cut the frames of each segment that reach into the zero padding of `librosa.stft(center=True)`.

    Returns float32 [segments * (left + right), n_fft], in the order (segment, frame), not yet windowed.
    """
    n_fft, hop, length = settings.n_fft, settings.hop_length, settings.segment_samples
    padded = np.zeros((len(starts), edges.left + edges.right, n_fft), np.float32)
    for rows, start in zip(padded, starts, strict=True):
        segment = samples[start : start + length]
        for t in range(edges.left):
            padding = n_fft // 2 - t * hop
            rows[t, padding:] = segment[: n_fft - padding]
        for t in range(edges.right):
            first = (edges.left + edges.inner + t) * hop - n_fft // 2
            rows[edges.left + t, : length - first] = segment[first:]
    return padded.reshape(-1, n_fft)


def _write_log_mel(frames: Float32, picked: NDArray[np.int64], filters: Filters, out: Float32) -> None:
    """Write the mel spectrum in dB of the picked frames, before `top_db`, to float32 [len(picked), n_mels].

    Works on a few frames at a time, so that intermediate results stay in the cache and memory does not grow with
    the length of the track.
    """
    at_once = max(1, _SAMPLES_AT_ONCE // len(filters.window))
    for first in range(0, len(picked), at_once):
        chunk = slice(first, first + at_once)
        indices = picked[chunk]
        # The picked frames are usually adjacent, and then windowing is the first copy.
        together = indices[-1] - indices[0] + 1 == len(indices)
        windowed = (frames[indices[0] : indices[-1] + 1] if together else frames[indices]) * filters.window
        # One column per frame: the sparse product reads a bin of all frames at once.
        spectrum = scipy.fft.rfft(windowed.T, axis=0)
        power = np.square(spectrum.real)
        power += np.square(spectrum.imag)
        out[chunk] = (filters.mel @ power).T
    np.maximum(out, np.float32(AMIN), out=out)
    np.log10(out, out=out)
    out *= np.float32(10.0)


def _dct(log_mel: Float32, n_mfcc: int) -> Float32:
    """Take the first terms of the orthonormal DCT-II of each frame, float32 [frames, n_mfcc].

    SciPy's transform, not a matrix product: BLAS rounds a frame differently depending on the size of the matrix,
    so that frames which segments share would differ in their last bits.
    """
    cepstrum: Float32 = scipy.fft.dct(log_mel, axis=1, type=2, norm="ortho")[:, :n_mfcc]
    return cepstrum


def _segment_frames(inner: NDArray[np.int64], hops: NDArray[np.int64], edges: _Edges) -> NDArray[np.int64]:
    """Return where each segment's frames are among the computed ones, int64 [segments, frames]."""
    segments, padded = len(hops), edges.left + edges.right
    first = np.searchsorted(inner, hops)[:, None] + np.arange(edges.inner)
    others = len(inner) + np.arange(segments * padded).reshape(segments, padded)
    return np.concatenate([others[:, : edges.left], first, others[:, edges.left :]], axis=1)
