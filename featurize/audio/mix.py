"""All channels to one: their mean as in `librosa.load`, or one of them; and whether they cancel in the mean."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Channels = Literal["mean", "left", "right"]

# The mean of n channels that have nothing to do with each other peaks at 1 / n of the loudest one or above. If it
# peaks at a fifth of that (in stereo 20 dB below the channels), one channel is the inverse of another, and what is
# left is rounding and coding noise: -90 dB in 16 bits, -42 dB in 8 bits, but only -23 dB in Ogg Vorbis, which sets
# the threshold. In 135 published recordings the mean peaked at 1.07 / n or above.
_CANCELED = 0.2
_LOUD = 0.25  # of full scale


class Mixer:
    """Mixes the blocks of one track to mono, and remembers how loud its channels were."""

    def __init__(self, channels: Channels) -> None:
        """Create a mixer that takes the mean, the left or the right channel."""
        self._wanted = channels
        self._mix_peak = 0.0
        self._share = 0.0
        self.channel_peak = 0.0

    def mix(self, channels: Float32) -> Float32:
        """Mix float32 [channels, frames] to float32 [frames], always a copy.

        Left is the first channel and right the second one; of a single channel both are that.

        A matrix product, because `mean` over interleaved channels takes longer than decoding MP3.
        """
        if self._wanted != "mean" or len(channels) == 1:
            wanted = 1 if self._wanted == "right" and len(channels) > 1 else 0
            return np.array(channels[wanted])
        with np.errstate(invalid="ignore", over="ignore"):  # infinite samples are rejected later
            mono: Float32 = np.full(len(channels), 1 / len(channels), np.float32) @ channels
        # A mix this loud cancels only if the channels exceed full scale by far: look no further.
        if self._mix_peak < _LOUD:
            self._mix_peak = max(self._mix_peak, _peak(mono))
            peak = _peak(channels)
            self.channel_peak = max(self.channel_peak, peak)
            self._share = max(self._share, peak / len(channels))
        return mono

    def cancels(self, mix_peak: float) -> bool:
        """Return whether the channels cancel, given the peak of the whole mix after resampling.

        Resampling removes high tones, so the mix before it must be low as well.
        """
        return mix_peak < _CANCELED * self._share and self._mix_peak < self._share


def _peak(samples: Float32) -> float:
    return max(float(samples.max()), -float(samples.min())) if samples.size else 0.0
