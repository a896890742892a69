"""Slaney's mel scale, which `librosa.filters.mel` uses by default, without importing librosa.

It is linear below 1,000 Hz and logarithmic above. The filters themselves come from librosa; here are the centers
of the bands, for checks of settings and for the axes of pictures.
"""

import math

_HZ_PER_MEL = 200 / 3  # below the knee
_KNEE_HZ = 1000.0
_KNEE_MEL = _KNEE_HZ / _HZ_PER_MEL
_LOG_STEP = math.log(6.4) / 27  # of frequency per mel, above the knee


def band_edges(n_mels: int, f_min: float, f_max: float) -> list[float]:
    """Return the frequencies that bound the bands, in Hz.

    Args:
        n_mels: Number of bands.
        f_min: Lower edge of the first band, in Hz.
        f_max: Upper edge of the last band, in Hz.

    Returns:
        n_mels + 2 frequencies in ascending order: band i is a triangle from entry i over i + 1 to i + 2.
    """
    low, high = _to_mel(f_min), _to_mel(f_max)
    return [_to_hz(low + (high - low) * i / (n_mels + 1)) for i in range(n_mels + 2)]


def empty_bands(sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float) -> list[int]:
    """Return the bands that no frequency of the FFT falls into, ascending; librosa only warns of them."""
    step = sample_rate / n_fft
    edges = band_edges(n_mels, f_min, f_max)
    return [band for band in range(n_mels) if (math.floor(edges[band] / step) + 1) * step >= edges[band + 2]]


def _to_mel(frequency: float) -> float:
    if frequency < _KNEE_HZ:
        return frequency / _HZ_PER_MEL
    return _KNEE_MEL + math.log(frequency / _KNEE_HZ) / _LOG_STEP


def _to_hz(mel: float) -> float:
    if mel < _KNEE_MEL:
        return mel * _HZ_PER_MEL
    return _KNEE_HZ * math.exp(_LOG_STEP * (mel - _KNEE_MEL))
