"""Features are settings: each combination equals librosa's, and impossible ones are refused."""

import warnings

import librosa
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from support.librosa_reference import TOLERANCE_DB, librosa_features

from featurize.audio.filters import Filters
from featurize.audio.mfcc import delta_filters, segment_features, segment_starts
from featurize.config import FeaturizeConfig
from featurize.dataset.feature_settings import FeatureSettings
from featurize.mel_scale import band_edges, empty_bands
from featurize.planning.shard_plan import feature_settings, fingerprint
from jobs.config import load_config
from jobs.errors import ConfigError

SHAPES = {
    "13 MFCC of 3 s at 16 kHz": ({"sample_rate": 16000, "n_mfcc": 13, "segment_seconds": 3}, (13, 94)),
    "log-mel, 128 x 256": ({"kind": "log_mel", "segment_frames": 256}, (128, 256)),
    "20 MFCC of 1 s": ({"n_mfcc": 20, "segment_seconds": 1}, (20, 44)),
    "MFCC and two deltas": ({"deltas": 2}, (120, 217)),
}


@st.composite
def _configs(draw):
    n_fft = 2 * draw(st.integers(100, 1500))
    rate = draw(st.sampled_from([8000, 11025, 16000, 22050, 44100]))
    kind = draw(st.sampled_from(["mfcc", "log_mel"]))
    values = {
        "kind": kind,
        "sample_rate": rate,
        "n_fft": n_fft,
        "hop_length": draw(st.integers(n_fft // 8, n_fft)),
        "n_mels": draw(st.integers(1, 64)),
        "f_min": draw(st.sampled_from([0, 30.5, 300])),
        "f_max": draw(st.sampled_from([None, 3000, 4000.0])),
        "top_db": draw(st.sampled_from([20, 60.5, 80])),
        "deltas": draw(st.integers(0, 2)),
        "segments_per_track": draw(st.integers(1, 4)),
        "segment_seconds": draw(st.floats(n_fft / rate, 2)),
    }
    values["n_mfcc"] = draw(st.integers(1, values["n_mels"]))
    try:
        return feature_settings(FeaturizeConfig(**values))
    except ValidationError:
        assume(False)  # too few frames for deltas, or empty bands


def _signal(kind, length, rate, random):
    t = np.arange(length) / rate
    noise = random.standard_normal(length)
    signals = {
        "noise": noise / 4,
        "tone": np.sin(2 * np.pi * 440 * t),
        "fading": noise * np.geomspace(1, 1e-6, length),
        "clicks": t * 3 % 1 < 2 / rate,
        "loud": 1000 * noise,
    }
    return signals[kind].astype(np.float32)


@given(
    config=_configs(),
    kind=st.sampled_from(["noise", "tone", "fading", "clicks", "loud"]),
    more=st.floats(0, 1.5),
    seed=st.integers(0, 100),
)
@settings(max_examples=60)
def test_every_combination_equals_librosa(config, kind, more, seed):
    length = int(config.segment_samples * (1 + more))
    samples = _signal(kind, length, config.sample_rate, np.random.default_rng(seed))
    starts = segment_starts(length, config)
    found = segment_features(samples, starts, Filters.from_librosa(config), config)
    assert found.shape == (config.segments_per_track, config.features, config.frames)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, librosa_features(samples, starts, config), rtol=0, atol=TOLERANCE_DB)


@pytest.mark.parametrize(
    "values", [{"f_min": 2000}, {"f_max": 4000}, {"kind": "log_mel", "f_min": 9000, "n_mels": 24}]
)
def test_bands_equal_librosa_below_louder_frequencies_outside_them(values):
    config = feature_settings(FeaturizeConfig(segment_seconds=1, segments_per_track=2, **{"n_mfcc": 20, **values}))
    length, rate = 2 * config.segment_samples, config.sample_rate
    outside = 500 if config.f_min else 7000  # Hz
    samples = np.sin(2 * np.pi * outside * np.arange(length) / rate)
    samples += 1e-5 * np.random.default_rng(0).standard_normal(length)
    samples, starts = samples.astype(np.float32), segment_starts(length, config)
    found = segment_features(samples, starts, Filters.from_librosa(config), config)
    np.testing.assert_allclose(found, librosa_features(samples, starts, config), rtol=0, atol=TOLERANCE_DB)


@pytest.mark.parametrize("name", SHAPES)
def test_shared_frames_are_bit_identical(name):
    values, shape = SHAPES[name]
    config = feature_settings(FeaturizeConfig(segments_per_track=3, **values))
    assert config.shape == shape
    hop, edge = config.hop_length, config.n_fft // config.hop_length + 4 * config.deltas
    samples = np.random.default_rng(0).standard_normal(config.segment_samples + 8 * hop).astype(np.float32) / 4
    starts = np.array([0, 3 * hop, 8 * hop])
    first, second, third = segment_features(samples, starts, Filters.from_librosa(config), config)
    for one, other, shift in ((first, second, 3), (second, third, 5)):
        np.testing.assert_array_equal(one[:, edge + shift : -edge], other[:, edge : -edge - shift])


def test_delta_filters_are_the_derivatives_of_librosa():
    config = feature_settings(FeaturizeConfig(deltas=2, segment_seconds=1))
    features = np.random.default_rng(0).standard_normal((3, config.frames)).astype(np.float32)
    for order, matrix in enumerate(delta_filters(config), 1):
        np.testing.assert_allclose(features @ matrix, librosa.feature.delta(features, order=order), atol=1e-6)


@given(
    rate=st.sampled_from([8000, 16000, 22050, 48000]),
    n_fft=st.sampled_from([256, 512, 1000, 2048]),
    n_mels=st.integers(1, 200),
    f_min=st.floats(0, 1500),
    f_max=st.floats(1600, 4000),
)
def test_empty_bands_are_those_of_librosa(rate, n_fft, n_mels, f_min, f_max):
    edges = band_edges(n_mels, f_min, f_max)
    np.testing.assert_allclose(edges, librosa.mel_frequencies(n_mels + 2, fmin=f_min, fmax=f_max), rtol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        filters = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=f_min, fmax=f_max)
    bins = np.arange(n_fft // 2 + 1) * rate / n_fft
    near = np.abs(np.array(edges)[:, None] / bins[None, 1:] - 1).min() < 1e-9  # an edge is a bin but for rounding
    assume(not near)
    assert empty_bands(rate, n_fft, n_mels, f_min, f_max) == np.flatnonzero(filters.max(axis=1) == 0).tolist()


@pytest.mark.parametrize(
    ("values", "problems"),
    [
        ({"f_max": 12000}, ["f_max = 12000 Hz is more than half of sample_rate = 22050 Hz"]),
        ({"f_min": 4000, "f_max": 3000}, ["f_min = 4000 Hz must be less than f_max, which is 3000 Hz"]),
        ({"n_mfcc": 41, "n_mels": 40}, ["n_mfcc = 41 is more than n_mels = 40"]),
        ({"hop_length": 4096}, ["hop_length = 4096 is more than n_fft = 2048: samples between frames are lost"]),
        ({"n_fft": 2047}, ["n_fft = 2047 is odd"]),
        ({"segment_frames": 3}, ["a segment has 1024 samples, less than n_fft = 2048"]),
        ({"segment_frames": 8, "deltas": 1}, ["deltas = 1 needs segments of 9 frames or more; they have 8"]),
        ({"excerpt_seconds": 5}, ["excerpt_seconds = 5 is less than a segment, which has 5.0155 s"]),
        (
            {"segment_frames": 100, "segment_seconds": 1},
            ["segment_frames = 100 and segment_seconds = 1, which has 44"],
        ),
        (
            {"segments_per_track": 1000, "deltas": 2},
            ["the features of a track take 104 MB (segments_per_track = 1000, each 120 x 217), expected at"],
        ),
        (
            {"n_fft": 256, "hop_length": 128},
            ["20 of 128 mel bands are empty", "86.13 Hz apart", "n_mels of 76 or less or an n_fft of 512 or more"],
        ),
        (
            {"n_fft": 16384, "hop_length": 1, "segment_frames": 20000, "n_mfcc": 20},
            ["the frames of a track take 13,008 MB (segments_per_track = 12, each 20000 frames of 128 mel bands)"],
        ),
        # All problems at once.
        ({"sample_rate": 16000, "f_max": 9000, "n_mfcc": 200}, ["f_max = 9000 Hz", "n_mfcc = 200"]),
    ],
)
def test_impossible_combinations_are_refused_with_the_reason(values, problems):
    overrides = [f"featurize.{key}={value}" for key, value in values.items()]
    with pytest.raises(ConfigError) as caught:
        load_config(None, overrides)
    assert not [problem for problem in problems if problem not in str(caught.value)], str(caught.value)


def test_default_settings_are_stored_as_before():
    """Without the keys of settings that are not the default: datasets keep their bytes, and shards their names."""
    config = feature_settings(FeaturizeConfig())
    assert list(config.model_dump()) == [
        *("sample_rate", "n_mfcc", "n_fft", "hop_length", "n_mels", "top_db", "segment_samples"),
        *("segments_per_track", "excerpt_seconds", "excerpt_position", "max_seconds"),
    ]
    assert fingerprint(config, [("a.mp3", "jazz", 0, 1234)]) == "fc1ebfc549e5da2b"
    assert config.shape == (40, 217)


@pytest.mark.parametrize(
    ("values", "same"),
    [
        ({"f_max": 11025}, {}),
        ({"excerpt_position": "middle"}, {}),
        ({"segment_seconds": 110592 / 22050}, {}),
        ({"kind": "log_mel", "n_mfcc": 13}, {"kind": "log_mel"}),
        ({"segment_frames": 44}, {"segment_seconds": 43 * 512 / 22050}),
    ],
)
def test_settings_of_the_same_features_are_equal(values, same):
    assert feature_settings(FeaturizeConfig(**values)) == feature_settings(FeaturizeConfig(**same))


@pytest.mark.parametrize("name", SHAPES)
def test_stored_settings_are_read_back(name):
    config = feature_settings(FeaturizeConfig(store="float16", f_min=20, **SHAPES[name][0]))
    assert FeatureSettings.model_validate(config.model_dump()) == config
