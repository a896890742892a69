"""Samples to MFCC segments equal to librosa's, with every STFT frame of a track computed once.

The segments of a short track overlap by 90 %, and `librosa.feature.mfcc` on each of them would transform the same
frames again and again. Here segments share frames; only the two frames at each edge of a segment, which reach into
librosa's zero padding, are computed separately.
"""

import contextlib
import dataclasses
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import scipy.fft
import scipy.sparse
from numpy.typing import NDArray

SAMPLE_RATE = 22050  # Hz
N_MFCC = 40
N_FFT = 2048  # samples
HOP_LENGTH = 512  # samples
N_MELS = 128
TOP_DB = 80.0  # dB below the loudest mel band of the segment
AMIN = 1e-10  # power floor of librosa.power_to_db

SEGMENT_SAMPLES = 216 * HOP_LENGTH  # 5.0155 s
SEGMENT_FRAMES = 1 + SEGMENT_SAMPLES // HOP_LENGTH  # 217

# A centered frame extends N_FFT / 2 samples to each side: this many frames at each end of a segment reach into
# the padding.
_EDGE_FRAMES = N_FFT // 2 // HOP_LENGTH
_INNER_FRAMES = SEGMENT_FRAMES - 2 * _EDGE_FRAMES
_FRAMES_AT_ONCE = 48

Float32 = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Filters:
    """The constants of the transform, taken from librosa so that librosa stays the reference.

    Attributes:
        window: float32 [n_fft], periodic Hann window.
        mel: Sparse float32 [n_mels, 1 + n_fft / 2], Slaney's mel filters.
    """

    window: Float32
    mel: scipy.sparse.csr_matrix

    @classmethod
    def from_librosa(cls) -> "Filters":
        """Build the filters that `librosa.feature.mfcc(sr=22050, n_mfcc=40)` uses by default."""
        # Imported here: it takes a second that only a worker has to spend.
        with _outside_the_working_directory(), _cache_of_numba():
            from librosa.filters import get_window, mel

        return cls(
            window=get_window("hann", N_FFT, fftbins=True).astype(np.float32),
            mel=scipy.sparse.csr_matrix(mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=N_MELS)),
        )


@contextmanager
def _outside_the_working_directory() -> Iterator[None]:
    """Keep numba, which librosa imports, from obeying a file of settings in the working directory.

    The folder is not trusted, and the file names the folder of cached code. A working directory that was removed,
    as Ray does with that of a job, holds none.
    """
    try:
        before = os.getcwd()
    except FileNotFoundError:
        yield
        return
    os.chdir(os.sep)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # it has been removed in the meantime
            os.chdir(before)


@contextmanager
def _cache_of_numba() -> Iterator[None]:
    """Let librosa be imported where numba can write its cache neither beside librosa nor in the home folder.

    Numba refuses to decorate functions there, which an import of librosa does.
    """
    spec = importlib.util.find_spec("librosa")
    folders = [os.path.dirname(spec.origin) if spec and spec.origin else "", os.path.expanduser("~")]
    if "NUMBA_CACHE_DIR" in os.environ or any(os.access(folder, os.W_OK) for folder in folders):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="earmark-") as cache:
        os.environ["NUMBA_CACHE_DIR"] = cache
        try:
            yield
        finally:
            del os.environ["NUMBA_CACHE_DIR"]


def segment_starts(n_samples: int, segments: int) -> NDArray[np.int64]:
    """Place the segments of a track evenly, on whole hops.

    Args:
        n_samples: Length of the track in samples, at least SEGMENT_SAMPLES.
        segments: Number of segments, at least 1.

    Returns:
        int64 [segments], the first sample of each segment: the first segment starts at 0, the last ends less than
        one hop before the end of the track. A very short track repeats segments, so that all tracks have equal
        weight.

    Raises:
        ValueError: The track is shorter than one segment.
    """
    room = n_samples - SEGMENT_SAMPLES
    if room < 0:
        raise ValueError(f"expected at least {SEGMENT_SAMPLES} samples for one segment, found {n_samples}")
    even = np.arange(segments, dtype=np.int64) * room // max(segments - 1, 1)
    return even // HOP_LENGTH * HOP_LENGTH


def mfcc_segments(samples: Float32, starts: NDArray[np.int64], filters: Filters) -> Float32:
    """Compute the MFCC of each segment as `librosa.feature.mfcc` would, sharing the frames between them.

    Equal to `librosa.feature.mfcc(y=samples[s : s + SEGMENT_SAMPLES], sr=22050, n_mfcc=40)` of librosa 0.11
    for each start s, up to the rounding of float32. `top_db` is taken relative to each segment's own maximum.
    Frames that two segments share are the same bit for bit as long as the clamp treats them alike.

    Args:
        samples: float32 [n_samples], mono, at SAMPLE_RATE.
        starts: int64 [segments], in samples, multiples of HOP_LENGTH, each followed by a whole segment.
        filters: From `Filters.from_librosa()`.

    Returns:
        float32 [segments, N_MFCC, SEGMENT_FRAMES], in dB after the DCT.
    """
    hops = starts // HOP_LENGTH
    # Frame j of the track covers samples [j * HOP_LENGTH, j * HOP_LENGTH + N_FFT).
    inner = _distinct(hops[:, None] + np.arange(_INNER_FRAMES))
    shared = np.lib.stride_tricks.sliding_window_view(samples, N_FFT)[::HOP_LENGTH]
    edges = _edge_frames(samples, starts)
    log_mel = np.empty((len(inner) + len(edges), N_MELS), np.float32)
    _write_log_mel(shared, inner, filters, log_mel[: len(inner)])
    _write_log_mel(edges, np.arange(len(edges)), filters, log_mel[len(inner) :])
    quietest, loudest = log_mel.min(axis=1), log_mel.max(axis=1)
    frames = _segment_frames(inner, hops)
    floors = loudest[frames].max(axis=1) - np.float32(TOP_DB)

    mfcc = np.empty((len(starts), N_MFCC, SEGMENT_FRAMES), np.float32)
    cepstrum = _dct(log_mel)
    # Overlapping segments often share their loudest frame, and then the clamped frames too.
    for floor in np.unique(floors):
        alike = np.flatnonzero(floors == floor)
        clamped = _distinct(frames[alike])
        clamped = clamped[quietest[clamped] < floor]
        raised = cepstrum.copy()
        raised[clamped] = _dct(np.maximum(log_mel[clamped], floor))
        for i in alike:
            mfcc[i] = raised[frames[i]].T
    return mfcc


def _distinct(indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the distinct values of small non-negative integers in ascending order, int64 [values]."""
    present = np.zeros(int(indices.max()) + 1, np.bool_)
    present[indices] = True
    return np.flatnonzero(present)


def _edge_frames(samples: Float32, starts: NDArray[np.int64]) -> Float32:
    """Cut the frames of each segment that reach into the zero padding of `librosa.stft(center=True)`.

    Returns float32 [len(starts) * 2 * _EDGE_FRAMES, N_FFT], in the order (segment, frame), not yet windowed.
    """
    edges = np.zeros((len(starts), 2 * _EDGE_FRAMES, N_FFT), np.float32)
    for edge, start in zip(edges, starts, strict=True):
        segment = samples[start : start + SEGMENT_SAMPLES]
        for t in range(_EDGE_FRAMES):
            padding = N_FFT // 2 - t * HOP_LENGTH
            edge[t, padding:] = segment[: N_FFT - padding]
            edge[-1 - t, : N_FFT - padding] = segment[SEGMENT_SAMPLES - N_FFT + padding :]
    return edges.reshape(-1, N_FFT)


def _write_log_mel(frames: Float32, picked: NDArray[np.int64], filters: Filters, out: Float32) -> None:
    """Write the mel spectrum in dB of the picked frames, before `top_db`, to float32 [len(picked), N_MELS].

    Works on a few frames at a time, so that intermediate results stay in the cache and memory does not grow with
    the length of the track.
    """
    for first in range(0, len(picked), _FRAMES_AT_ONCE):
        chunk = slice(first, first + _FRAMES_AT_ONCE)
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


def _dct(log_mel: Float32) -> Float32:
    """Take the first N_MFCC terms of the orthonormal DCT-II of each frame, float32 [frames, N_MFCC].

    SciPy's transform, not a matrix product: BLAS rounds a frame differently depending on the size of the matrix,
    so that frames which segments share would differ in their last bits.
    """
    cepstrum: Float32 = scipy.fft.dct(log_mel, axis=1, type=2, norm="ortho")[:, :N_MFCC]
    return cepstrum


def _segment_frames(inner: NDArray[np.int64], hops: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each segment's frames are among the computed ones, int64 [segments, SEGMENT_FRAMES]."""
    segments = len(hops)
    frames = np.empty((segments, SEGMENT_FRAMES), np.int64)
    frames[:, _EDGE_FRAMES:-_EDGE_FRAMES] = np.searchsorted(inner, hops)[:, None] + np.arange(_INNER_FRAMES)
    edges = len(inner) + np.arange(segments * 2 * _EDGE_FRAMES).reshape(segments, 2 * _EDGE_FRAMES)
    frames[:, :_EDGE_FRAMES] = edges[:, :_EDGE_FRAMES]
    frames[:, -_EDGE_FRAMES:] = edges[:, _EDGE_FRAMES:]
    return frames
