"""Any bytes become librosa's samples or a reject with a reason."""

import io
import os

import librosa
import numpy as np
import pytest
import soundfile
from conftest import FORMATS, encode
from hypothesis import given, settings
from hypothesis import strategies as st
from test_mfcc import TOLERANCE_DB, librosa_mfcc

from featurize.audio import decode, load
from featurize.config import FeaturizeConfig
from featurize.errors import Reject
from featurize.mfcc import SAMPLE_RATE, SEGMENT_SAMPLES, Filters
from featurize.shards import feature_settings
from featurize.source import Source
from featurize.storage import Place
from featurize.worker import featurize_track
from jobs.compose import STYLES, Habits, compose

SETTINGS = feature_settings(FeaturizeConfig(segments_per_track=4))
FILTERS = Filters.from_librosa()
RATES = {
    ".mp3": (44100, 22050, 48000),
    ".opus": (48000, 16000),
    ".ogg": (44100, 32000),
    ".wav": (44100, 8000, 96000, 22050),
    ".flac": (44100, 96000),
    ".aiff": (11025, 48000),
}


def _decode(encoded: bytes, **settings) -> np.ndarray:
    return decode(Source(io.BytesIO(encoded)), ".mp3", {**SETTINGS, **settings})


def _piece(rate: int, channels: int) -> np.ndarray:
    rng = np.random.default_rng(rate)
    piece = compose(STYLES["pulses"], Habits.draw(rng), 6.5, rng)[:, :1].T
    mono = librosa.resample(piece, orig_sr=44100, target_sr=rate)[0]
    levels = np.linspace(1, 0.3, channels)
    return np.stack([np.roll(mono, 50 * i) * level for i, level in enumerate(levels)], axis=1)


@pytest.mark.parametrize(
    ("suffix", "rate", "channels"),
    [(suffix, rate, 2) for suffix in FORMATS for rate in RATES[suffix]]
    + [(".mp3", 44100, 1), (".wav", 44100, 8), (".flac", 44100, 6)],
)
def test_every_format_equals_librosa(suffix, rate, channels, tmp_path):
    path = tmp_path / f"piece{suffix}"
    path.write_bytes(encode(_piece(rate, channels), rate, suffix))
    expected, _ = librosa.load(path)
    samples = load(Place.of(path), SETTINGS)
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, expected, rtol=0, atol=1e-6)
    mfcc, starts = featurize_track(Place.of(path), SETTINGS, FILTERS)
    hops = np.round(starts * SAMPLE_RATE).astype(int)
    np.testing.assert_allclose(mfcc, librosa_mfcc(expected, hops), rtol=0, atol=TOLERANCE_DB)


def _wav(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples.astype(np.float32), SAMPLE_RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


NOISE = np.random.default_rng(0).standard_normal(SEGMENT_SAMPLES).astype(np.float32) / 4


@pytest.mark.parametrize(
    ("content", "stage", "reason"),
    [
        (b"", "open", "empty"),
        (b"# a readme with an mp3's name\n" * 50, "decode", "not decodable"),
        (bytes(5000), "decode", "not decodable"),
        (_wav(NOISE)[:30], "decode", "not decodable"),
        (_wav(NOISE[:-1]), "check", "too short"),
        (_wav(NOISE * 0), "check", "silent"),
        (_wav(NOISE * 1e-7), "check", "silent"),
        (_wav(np.where(np.arange(SEGMENT_SAMPLES) == 9, np.nan, NOISE)), "check", "not finite"),
        (_wav(np.where(np.arange(SEGMENT_SAMPLES) == 9, np.inf, NOISE)), "check", "not finite"),
    ],
)
def test_what_cannot_be_used_says_why(content, stage, reason, tmp_path):
    path = tmp_path / "track.mp3"
    path.write_bytes(content)
    with pytest.raises(Reject) as caught:
        load(Place.of(path), SETTINGS)
    assert (caught.value.stage, caught.value.reason) == (stage, reason)
    assert caught.value.message
    assert "0x" not in caught.value.message  # an address would make every run's shard another


def test_what_cannot_be_opened_says_why(tmp_path):
    with pytest.raises(Reject) as caught:
        load(Place.of(tmp_path / "gone.mp3"), SETTINGS)
    assert (caught.value.stage, caught.value.reason) == ("open", "missing")
    with pytest.raises(Reject) as caught:
        load(Place.of(tmp_path), SETTINGS)
    assert (caught.value.stage, caught.value.reason) == ("open", "unreadable")
    os.mkfifo(tmp_path / "pipe.mp3")
    with pytest.raises(Reject, match="not a regular file"):
        load(Place.of(tmp_path / "pipe.mp3"), SETTINGS)


def test_a_truncated_file_gives_what_it_holds():
    whole = encode(_piece(44100, 2), 44100, ".mp3")
    samples = _decode(whole[: len(whole) * 9 // 10])
    assert 5.5 < len(samples) / SAMPLE_RATE < 6.1


@settings(max_examples=60, deadline=None)
@given(
    start=st.sampled_from([encode(_piece(48000, 1), 48000, suffix)[:6000] for suffix in FORMATS] + [b""]),
    noise=st.binary(max_size=3000),
    position=st.integers(0, 6000),
)
def test_any_bytes_become_samples_or_a_reject(start, noise, position):
    damaged = start[:position] + noise + start[position + len(noise) :]
    try:
        samples = _decode(damaged)
    except Reject as reject:
        stage = reject.stage
    else:
        stage = "none" if np.isfinite(samples).all() else "not finite"
    assert stage in ("decode", "check", "none")
