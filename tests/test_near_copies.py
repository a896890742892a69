"""Other encodings of a recording are found; other recordings are not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.audio import encode

from jobs.demo.synthesis import SAMPLE_RATE, STYLES, Habits, compose
from train.evaluation.near_copies import NearCopy, courses, families, find_near_copies


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """Fifteen pieces in three styles, each followed by its copies; returns rows, and the piece of each track."""
    import librosa

    folder = tmp_path_factory.mktemp("copies")
    rows, piece_of = [], []
    for piece in range(15):
        style = list(STYLES.values())[piece % 3]
        random = np.random.default_rng([5, piece])
        samples = compose(style, Habits.draw(random), 7, random)
        versions = [(samples, ".flac")]
        if piece % 3 == 0:
            versions += [(samples, ".mp3"), (0.5 * samples, ".ogg")]
        for version, suffix in versions:
            path = folder / f"piece{suffix}"
            path.write_bytes(encode(version.astype(np.float32), SAMPLE_RATE, suffix))
            decoded, _ = librosa.load(path, sr=22050)
            mfcc = librosa.feature.mfcc(y=decoded, sr=22050, n_mfcc=40)
            starts = np.linspace(0, mfcc.shape[1] - 217, 6).astype(int)
            rows.append(np.stack([mfcc[:, start : start + 217] for start in starts]))
            piece_of.append(piece)
    return np.array(rows, np.float32), piece_of


def test_copies_are_found_and_nothing_else(collection):
    rows, piece_of = collection
    found = {(first, second) for first, second, _ in find_near_copies(courses(rows))}
    tracks = range(len(piece_of))
    copies = {(a, b) for a in tracks for b in tracks if a < b and piece_of[a] == piece_of[b]}
    assert len(copies) == 15
    assert len(found & copies) >= 14
    assert not found - copies


def test_a_track_in_which_nothing_moves_is_no_copy_of_another():
    still = np.zeros((3, 4, 40, 217), np.float32)
    assert not find_near_copies(courses(still))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.sampled_from([2, 13, 40, 128]), st.integers(2, 300))
def test_any_shape_has_courses_of_length_one(tracks, segments, coefficients, frames):
    random = np.random.default_rng(0)
    found = courses(random.standard_normal((tracks, segments, coefficients, frames)).astype(np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_blocks_compare_all_pairs(monkeypatch):
    random = np.random.default_rng(1)
    described = courses(random.standard_normal((50, 3, 40, 217)).astype(np.float32))
    described[41] = described[3]
    described[12] = described[3]
    monkeypatch.setattr("train.evaluation.near_copies._ROWS_AT_ONCE", 7)
    assert {pair[:2] for pair in find_near_copies(described)} == {(3, 12), (3, 41), (12, 41)}


def test_pairs_that_share_a_track_are_one_family():
    pairs = [NearCopy(1, 5, 0.9), NearCopy(7, 8, 0.9), NearCopy(5, 7, 0.9), NearCopy(2, 3, 0.9)]
    assert families(pairs) == [[1, 5, 7, 8], [2, 3]]
