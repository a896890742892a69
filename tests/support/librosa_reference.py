"""Reference features, computed by librosa."""

import librosa
import numpy as np

from support.default_features import SAMPLE_RATE, SEGMENT_SAMPLES

TOLERANCE_DB = 2e-3


def librosa_mfcc(samples, starts):
    """Compute the MFCC of segments, float32 [segments, 40, 217]."""
    segments = (samples[start : start + SEGMENT_SAMPLES] for start in starts)
    return np.stack([librosa.feature.mfcc(y=y, sr=SAMPLE_RATE, n_mfcc=40) for y in segments])


def librosa_features(samples, starts, settings):
    """Compute the features of segments as a user of librosa would, float32 [segments, features, frames]."""
    segments = (samples[start : start + settings.segment_samples] for start in starts)
    return np.stack([_features(y, settings) for y in segments])


def _features(y, settings):
    mel = librosa.feature.melspectrogram(
        y=y,
        sr=settings.sample_rate,
        n_fft=settings.n_fft,
        hop_length=settings.hop_length,
        n_mels=settings.n_mels,
        fmin=settings.f_min,
        fmax=settings.f_max,
    )
    features = librosa.power_to_db(mel, top_db=settings.top_db)
    if settings.kind == "mfcc":
        features = librosa.feature.mfcc(S=features, n_mfcc=settings.n_mfcc)
    orders = range(1, settings.deltas + 1)
    return np.concatenate([features, *(librosa.feature.delta(features, order=order) for order in orders)])
