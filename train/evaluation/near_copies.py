"""Find copies of a recording whose rows differ: other encodings, other bit rates, another volume.

The digest of the rows cannot find these. What stays the same is how the spectral envelope moves in time, so a
track is described by the course of its lower coefficients in three of its segments, without the first coefficient,
which is the volume. Two tracks are compared by the correlation of their courses. The idea is that of audio
fingerprints (Haitsma and Kalker, ISMIR 2002), but without an index: all pairs are computed.

Measured on 135 excerpts of music: 23 of them encoded again as Ogg Vorbis or MP3, also at half the volume, had a
correlation of 0.85 to 0.99 with the original; different recordings had 0.53 and less. Copies that begin at another
time are not found.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from featurize.dataset.reader import Shard, read_row_group, read_track_ids
from featurize.dataset.schema import SegmentFormat

Float32 = NDArray[np.float32]

LEAST_CORRELATION = 0.75
MOST_TRACKS = 50_000  # the time grows with the square: four minutes on two cores
_COEFFICIENTS = slice(1, 20)
_FRAMES = 9  # averaged: 0.2 s, more than the delay of an encoder
_SEGMENTS = 3
_ROWS_AT_ONCE = 2048


class NearCopy(NamedTuple):
    """Two tracks that are probably the same recording.

    Attributes:
        first, second: Indices of the tracks; the first is smaller.
        correlation: Correlation of their courses, at most 1.
    """

    first: int
    second: int
    correlation: float


def describe_tracks(shard: Shard, segments: int) -> tuple[list[str], Float32]:
    """Return the ids of the tracks of a shard, and their courses, float32 [tracks, numbers], each of length 1.

    Args:
        shard: A shard with rows.
        segments: Number of rows of each track.
    """
    parts = []
    for index in range(len(shard.row_groups)):
        rows, _ = read_row_group(shard, index)
        rows = _cepstra(rows, shard.format)
        parts.append(courses(rows.reshape(-1, segments, *rows.shape[1:])))
    return read_track_ids(shard, segments), np.concatenate(parts)


def _cepstra(rows: Float32, form: SegmentFormat) -> Float32:
    """Return the cepstral coefficients of segments, without their derivatives, [rows, coefficients, frames].

    Every band of a mel spectrum follows the volume; of its cosine transform along the bands, only the first
    coefficient does.
    """
    rows = rows[:, : rows.shape[1] // (1 + form.deltas)]
    if form.column == "mfcc":
        return rows
    transformed: Float32 = scipy.fft.dct(rows, axis=1, norm="ortho")
    return transformed


def courses(tracks: Float32) -> Float32:
    """Return the courses of the coefficients of tracks.

    Args:
        tracks: float32 [tracks, segments, coefficients, frames].

    Returns:
        float32 [tracks, numbers], each of length 1; all zeros for a track in which nothing moves.
    """
    chosen = np.linspace(0, tracks.shape[1] - 1, min(_SEGMENTS, tracks.shape[1])).astype(int)
    parts = tracks[:, chosen][:, :, _COEFFICIENTS]
    width = min(_FRAMES, max(parts.shape[-1] // 4, 1))
    frames = parts.shape[-1] // width
    means = parts[..., : frames * width].reshape(*parts.shape[:-1], frames, width).mean(axis=-1)
    means = means - means.mean(axis=-1, keepdims=True)
    deviation = means.std(axis=-1, keepdims=True)
    means = np.divide(means, deviation, out=np.zeros_like(means), where=deviation > 1e-3)
    flat = means.reshape(len(tracks), -1)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    found: Float32 = np.divide(flat, length, out=np.zeros_like(flat), where=length > 0).astype(np.float32)
    return found


def find_near_copies(described: Float32) -> list[NearCopy]:
    """Return the pairs of tracks that are probably copies of one recording, by their indices.

    Args:
        described: float32 [tracks, numbers], from `courses`.
    """
    return list(_pairs(described))


def _pairs(described: Float32) -> Iterator[NearCopy]:
    for start in range(0, len(described), _ROWS_AT_ONCE):
        block = described[start : start + _ROWS_AT_ONCE]
        correlations = block @ described[start:].T
        for row, column in np.argwhere(correlations >= LEAST_CORRELATION).tolist():
            if column > row:
                yield NearCopy(start + row, start + column, min(float(correlations[row, column]), 1.0))


def families(pairs: Sequence[NearCopy]) -> list[list[int]]:
    """Join pairs that share a track; return the tracks of each family, in ascending order."""
    parent: dict[int, int] = {}

    def root(track: int) -> int:
        while parent.setdefault(track, track) != track:
            track = parent[track]
        return track

    for first, second, _ in pairs:
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    joined: dict[int, list[int]] = {}
    for track in sorted(parent):
        joined.setdefault(root(track), []).append(track)
    return list(joined.values())
