"""Features equal those of librosa, and overlapping segments share frames."""

import subprocess
import sys

import librosa
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.default_features import HOP_LENGTH, SAMPLE_RATE, SEGMENT_SAMPLES, SETTINGS
from support.librosa_reference import TOLERANCE_DB, librosa_mfcc

from featurize.audio.filters import Filters
from featurize.audio.mfcc import segment_features, segment_starts

N = 10 * SAMPLE_RATE


@pytest.fixture(scope="module")
def filters():
    return Filters.from_librosa(SETTINGS)


def _signals():
    rng = np.random.default_rng(0)
    t = np.arange(N) / SAMPLE_RATE
    noise, sine = rng.standard_normal(N), np.sin(2 * np.pi * 440 * t)
    return {
        "noise": noise / 4,
        "sine": sine,
        "silence-edged": np.where((t > 3) & (t < 7), sine, 0),
        "noise-edged": np.where((t > 3) & (t < 7), 0, noise),
        "clipped": np.clip(5 * noise, -1, 1),
        "square": np.sign(sine),
        "very loud": 1000 * noise,
        "very quiet": 1e-5 * noise,
        "one click": np.arange(N) == N // 2,
        "clicks": np.arange(N) % SAMPLE_RATE == 0,
        "constant": np.ones(N),
        "loud and quiet": sine * np.where(t < 5, 1, 1e-4),
        "chirp": librosa.chirp(fmin=20, fmax=11000, sr=SAMPLE_RATE, length=N),
    }


@pytest.mark.parametrize("name", _signals())
def test_equals_librosa(name, filters):
    samples = _signals()[name].astype(np.float32)
    starts = segment_starts(N, SETTINGS)
    found = segment_features(samples, starts, filters, SETTINGS)
    assert found.shape == (12, 40, 217)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, librosa_mfcc(samples, starts), rtol=0, atol=TOLERANCE_DB)


@pytest.mark.parametrize("seconds", [5.0155101, 5.02, 5.3, 61.7])
def test_equals_librosa_at_any_length(seconds, filters):
    """From a track of a single segment to one without overlaps."""
    samples = np.random.default_rng(1).standard_normal(round(seconds * SAMPLE_RATE)).astype(np.float32)
    samples[len(samples) // 2 :] *= 1e-3
    starts = segment_starts(len(samples), SETTINGS.model_copy(update={"segments_per_track": 7}))
    found = segment_features(samples, starts, filters, SETTINGS)
    np.testing.assert_allclose(found, librosa_mfcc(samples, starts), rtol=0, atol=TOLERANCE_DB)


def test_shared_frames_are_bit_identical(filters):
    """Loud and quiet passages activate the `top_db` clamp; a common maximum gives segments the same threshold."""
    rng = np.random.default_rng(2)
    samples = (rng.standard_normal(N) * np.repeat(rng.choice([1e-5, 0.3], N // 4410), 4410)).astype(np.float32)
    burst = 0.9 * np.sin(2 * np.pi * 1000 * np.arange(8192) / SAMPLE_RATE).astype(np.float32)
    samples[N // 2 : N // 2 + 8192] = burst
    starts = segment_starts(N, SETTINGS)
    mfcc = segment_features(samples, starts, filters, SETTINGS)
    levels = librosa_mfcc(samples, starts).max(axis=(1, 2))
    compared = 0
    for one, other in zip(range(11), range(1, 12), strict=True):
        shift = (starts[other] - starts[one]) // HOP_LENGTH
        if levels[one] == levels[other]:
            np.testing.assert_array_equal(mfcc[one][:, 2 + shift : 215], mfcc[other][:, 2 : 215 - shift])
            compared += 1
    assert compared >= 5


@given(n_samples=st.integers(SEGMENT_SAMPLES, 100 * SEGMENT_SAMPLES), segments=st.integers(1, 40))
def test_segments_are_evenly_spaced_over_the_track(n_samples, segments):
    starts = segment_starts(n_samples, SETTINGS.model_copy(update={"segments_per_track": segments}))
    assert len(starts) == segments
    assert starts[0] == 0
    assert (starts % HOP_LENGTH == 0).all()
    ends = starts + SEGMENT_SAMPLES
    assert (ends <= n_samples).all()
    if segments > 1:
        assert n_samples - ends[-1] < HOP_LENGTH
        gaps = np.diff(starts)
        assert gaps.max() - gaps.min() <= HOP_LENGTH
        assert gaps.min() >= 0


def test_a_track_shorter_than_a_segment_is_an_error():
    with pytest.raises(ValueError, match=f"at least {SEGMENT_SAMPLES} samples.*found {SEGMENT_SAMPLES - 1}"):
        segment_starts(SEGMENT_SAMPLES - 1, SETTINGS)


READ_ONLY = """
mount --bind {0} {0} && mount -o remount,ro,bind {0} || exit 77
exec env -u HOME -u NUMBA_CACHE_DIR {1} -c "
import os; os.path.expanduser = lambda path: '{0}'
from featurize.audio.filters import Filters
from featurize.config import FeaturizeConfig
from featurize.planning.shard_plan import feature_settings
print(Filters.from_librosa(feature_settings(FeaturizeConfig())).window.shape)"
"""


@pytest.mark.slow
def test_librosa_is_imported_from_a_read_only_installation_without_a_home():
    script = READ_ONLY.format(sys.prefix, sys.executable)
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("cannot mount here")
    assert done.stdout.strip() == "(2048,)", done.stderr
