"""Other encodings of a recording are found; other recordings are not."""

import numpy as np
import pytest
import scipy.fft
from hypothesis import given, settings
from hypothesis import strategies as st
from support.audio import encode

from featurize.config import FeaturizeConfig
from featurize.dataset.reader import Shard
from featurize.dataset.schema import shard_name
from featurize.dataset_build.shard_writer import ShardWriter
from featurize.planning.shard_plan import ShardPlan, Track, feature_settings
from featurize.storage import StoragePath
from jobs.demo.synthesis import SAMPLE_RATE, STYLES, Habits, compose
from train.evaluation.near_copies import NearCopy, courses, describe_tracks, families, find_near_copies


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


@pytest.mark.parametrize("kind", ["mfcc", "log_mel"])
def test_tracks_that_only_get_louder_together_are_no_copies(kind, tmp_path):
    """Two sounds with the same course of the volume, as shards of both kinds; then one of them and itself."""
    random, frames = np.random.default_rng(3), np.arange(217)
    volume = 20 * np.sin(frames / 9)
    spectra = [random.standard_normal((40, 1)) * 5 + random.standard_normal((40, 217)) for _ in range(2)]
    mel = np.stack([spectra[0] + volume, spectra[1] + volume, spectra[0] + volume]).astype(np.float32)
    rows = mel if kind == "log_mel" else scipy.fft.dct(mel, axis=1, norm="ortho")
    settings = feature_settings(FeaturizeConfig(kind=kind, n_mels=40, segments_per_track=1))
    writer = ShardWriter(ShardPlan(shard_name(0, 0, "0" * 16), StoragePath.of(tmp_path), [], settings))
    for number, row in enumerate(rows):
        writer.add(Track(f"{number}.mp3", "", 0, 0), row[None], np.zeros(1))
    writer.finish(StoragePath.of(tmp_path))
    place = StoragePath.of(tmp_path) / "shards" / shard_name(0, 0, "0" * 16)
    names, described = describe_tracks(Shard("x", place, 0, (3,), format=settings.format), 1)
    assert names == ["0.mp3", "1.mp3", "2.mp3"]
    assert [pair[:2] for pair in find_near_copies(described)] == [(0, 2)]


def test_a_track_in_which_nothing_moves_is_no_copy_of_another():
    still = np.zeros((3, 4, 40, 217), np.float32)
    assert not find_near_copies(courses(still))


@settings(max_examples=25)
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
