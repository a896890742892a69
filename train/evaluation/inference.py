"""A trained model asked about the segments of tracks."""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from train.evaluation.metrics import softmax
from train.evaluation.trained import load_model
from train.run import Run

_SEGMENTS_AT_ONCE = 1024


class TrainedClassifier:
    """A model that has learned, ready to say what it hears."""

    def __init__(self, run: Run) -> None:
        """Load the model of a run.

        Raises:
            TrainError: the run has none, or a broken one.
        """
        self.classes: list[str] = run.trained().classes
        model = load_model(run)
        self._logits = tf.function(
            lambda mfcc: model(mfcc, training=False),
            input_signature=[tf.TensorSpec(model.input_shape, tf.float32)],
        )

    def probabilities(self, mfcc: NDArray[np.float32]) -> NDArray[np.float64]:
        """Judge segments.

        Args:
            mfcc: float32 [tracks, segments, 40, 217], in dB, as the featurizer makes them.

        Returns:
            float64 [tracks, segments, classes]; those of a track are the mean over its segments.
        """
        rows = mfcc.reshape(-1, *mfcc.shape[2:])
        parts = [
            self._logits(rows[first : first + _SEGMENTS_AT_ONCE]).numpy()
            for first in range(0, len(rows), _SEGMENTS_AT_ONCE)
        ]
        logits = np.concatenate([np.empty((0, len(self.classes)), np.float32), *parts])
        return softmax(logits).reshape(*mfcc.shape[:2], len(self.classes))
