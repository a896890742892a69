"""Samples to segments of features as a TensorFlow graph, for servers without Earmark and librosa.

The graph computes the same MFCC or log-mel features as `featurize.audio.mfcc`. The window and the mel filters are
passed in, because `tf.signal` has HTK's mel scale and librosa's default is Slaney's.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from featurize.dataset.feature_settings import FeatureSettings

Float32 = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class MfccConstants:
    """Constants of the featurizer that are not feature settings.

    Attributes:
        window: [n_fft], window of each frame, which is transformed in its type, float32 or float64.
        mel: float32 [n_mels, 1 + n_fft / 2], mel filters.
        amin: Power floor of a mel band.
        peaks: Lowest and highest accepted peak of a track; full scale is 1.
        deltas: Filter of each derivative, float32 [frames, frames], from `delta_filters`.
    """

    window: Float32 | NDArray[np.float64]
    mel: Float32
    amin: float
    peaks: tuple[float, float]
    deltas: Sequence[Float32] = ()


class TrackMfcc:
    """Computes the features of the segments of a track with TensorFlow operations only."""

    def __init__(self, settings: FeatureSettings, constants: MfccConstants) -> None:
        """Create the transform.

        Args:
            settings: Feature settings of the model.
            constants: Constants of the featurizer.
        """
        self._settings = settings
        self._constants = constants

    def __call__(self, samples: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Compute the features of a decoded track, as the featurizer does.

        Args:
            samples: float32 [n], mono, at `sample_rate` Hz, full scale 1; n is at least `segment_samples`.

        Returns:
            float32 [segments, features, frames], in dB; and float64 [segments], start of each segment in seconds
            from the beginning of the excerpt.

        Raises:
            tf.errors.InvalidArgumentError: The track is too short, silent or too loud, or has samples that are not
                finite. Raised when the graph is run.
        """
        track = self._checked(self._excerpt(samples))
        starts = self._starts(tf.size(track, tf.int64))
        length = self._settings.segment_samples
        features = tf.map_fn(
            # Not all segments at once: the spectra of a segment need fifteen times the memory of its samples.
            lambda start: self._segment(track[start : start + length]),
            starts,
            fn_output_signature=tf.float32,
        )
        return features, tf.cast(starts, tf.float64) / self._settings.sample_rate

    def _excerpt(self, samples: tf.Tensor) -> tf.Tensor:
        """Return the excerpt that `featurize.audio.load.decode` would read."""
        seconds = self._settings.excerpt_seconds
        if seconds is None:
            return samples
        length = tf.size(samples)
        wanted = tf.minimum(int(seconds * self._settings.sample_rate), length)
        start = (length - wanted) // 2 if self._settings.excerpt_position == "middle" else 0
        return samples[start : start + wanted]

    def _checked(self, samples: tf.Tensor) -> tf.Tensor:
        """Return the samples unchanged, after assertions that the featurizer would not reject them."""
        length, rate = self._settings.segment_samples, self._settings.sample_rate
        lowest, highest = self._constants.peaks
        peak = tf.reduce_max(tf.abs(samples))
        finite = tf.reduce_all(tf.math.is_finite(samples))
        checks = [
            tf.debugging.assert_greater_equal(
                tf.size(samples),
                length,
                f"samples: one segment needs {length} of them ({length / rate:.4f} s at {rate:,} Hz)",
            ),
            tf.debugging.Assert(finite, ["samples: some of them are not finite"]),
            tf.debugging.Assert(
                # Empty and non-finite input have their own messages.
                tf.logical_not(finite) | tf.equal(tf.size(samples), 0) | ((peak >= lowest) & (peak <= highest)),
                [f"samples: expected a peak from {lowest:.0e} to {highest:.0e} of full scale, found", peak],
            ),
        ]
        with tf.control_dependencies([check for check in checks if check is not None]):
            return tf.identity(samples)

    def _starts(self, length: tf.Tensor) -> tf.Tensor:
        """Return the starts in samples, int64 [segments], as `featurize.audio.mfcc.segment_starts` does."""
        segments, hop = self._settings.segments_per_track, self._settings.hop_length
        room = length - self._settings.segment_samples
        even = tf.range(segments, dtype=tf.int64) * room // max(segments - 1, 1)
        return even // hop * hop

    def _segment(self, samples: tf.Tensor) -> tf.Tensor:
        """Return the features of one segment, float32 [features, frames], as librosa computes them."""
        n_fft = self._settings.n_fft
        window = tf.constant(self._constants.window)
        spectrum = tf.signal.stft(
            tf.pad(tf.cast(samples, window.dtype), [[n_fft // 2, n_fft // 2]]),
            frame_length=n_fft,
            frame_step=self._settings.hop_length,
            fft_length=n_fft,
            window_fn=lambda length, dtype: window,
        )
        power = tf.cast(tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum)), tf.float32)
        mel = tf.matmul(power, tf.constant(self._constants.mel), transpose_b=True)
        decibels = 10 / math.log(10) * tf.math.log(tf.maximum(mel, self._constants.amin))
        decibels = tf.maximum(decibels, tf.reduce_max(decibels) - self._settings.top_db)
        if self._settings.kind == "mfcc":
            decibels = tf.signal.dct(decibels, norm="ortho")[:, : self._settings.n_mfcc]
        features = tf.transpose(decibels)
        derivatives = [tf.matmul(features, tf.constant(matrix)) for matrix in self._constants.deltas]
        return tf.concat([features, *derivatives], axis=0)
