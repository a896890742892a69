"""Reference features, computed by librosa."""

import librosa
import numpy as np

from featurize.audio.mfcc import SAMPLE_RATE, SEGMENT_SAMPLES

TOLERANCE_DB = 2e-3


def librosa_mfcc(samples, starts):
    """Compute the MFCC of segments, float32 [segments, 40, 217]."""
    segments = (samples[start : start + SEGMENT_SAMPLES] for start in starts)
    return np.stack([librosa.feature.mfcc(y=y, sr=SAMPLE_RATE, n_mfcc=40) for y in segments])
