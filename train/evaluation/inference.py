"""The trained model of a run: loaded, and applied to the segments of tracks."""

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from featurize.display import one_line
from featurize.storage import StoragePath
from train.errors import TrainError
from train.evaluation.metrics import softmax
from train.model.code_file import FOLDER, code_of_run
from train.model.user_code import load_code
from train.run import Run

_BATCH_SIZE = 1024  # segments


class TrainedClassifier:
    """The model of a run, for prediction.

    Attributes:
        classes: Class names, in the order of the probabilities.
    """

    def __init__(self, run: Run, trust_code: bool = False) -> None:
        """Load the model of a run.

        Args:
            run: Run folder.
            trust_code: As in `load_model`.

        Raises:
            TrainError: The run has no model, or a broken one.
        """
        self.classes: list[str] = run.trained().classes
        model = load_model(run, trust_code)
        self._logits = tf.function(
            lambda mfcc: model(mfcc, training=False),
            input_signature=[tf.TensorSpec(model.input_shape, tf.float32)],
            autograph=False,
        )

    def probabilities(self, mfcc: NDArray[np.float32]) -> NDArray[np.float64]:
        """Predict the class probabilities of segments.

        Args:
            mfcc: float32 [tracks, segments, features, frames], in dB, as the featurizer computes them.

        Returns:
            float64 [tracks, segments, classes]. The probabilities of a track are the mean over its segments.
        """
        rows = mfcc.reshape(-1, *mfcc.shape[2:])
        parts = [
            self._logits(rows[first : first + _BATCH_SIZE]).numpy() for first in range(0, len(rows), _BATCH_SIZE)
        ]
        logits = np.concatenate([np.empty((0, len(self.classes)), np.float32), *parts])
        return softmax(logits).reshape(*mfcc.shape[:2], len(self.classes))


def load_model(run: Run, trust_code: bool = False) -> keras.Model:
    """Load the model of a run, from float32 [batch, features, frames] to logits, float32 [batch, classes].

    Args:
        run: Run folder.
        trust_code: Whether to execute the code of a user's model first, which defines its own layer classes. A run
            may be a stranger's: nothing of it is executed otherwise.

    Raises:
        TrainError: The file is broken, not that of `model.json`, or has layers that only code which is not trusted
            defines.
    """
    info = run.info()
    has_code = info is not None and info.model_code is not None
    if trust_code and has_code:
        load_code(code_of_run(run))
    try:
        model = load_keras(
            run.model,
            "Remove it and repeat its run or train command: it restores the model from the latest checkpoint.",
        )
    except TrainError as error:
        if has_code and not trust_code and "Could not locate" in str(error.__cause__):
            raise TrainError(
                f"{run.model} has custom layers, which {run.folder / FOLDER} defines. Nothing there was "
                "executed, because it may be anyone's code. Read it; if you trust it, add --trust-code"
            ) from error
        raise
    expected = ((None, *run.feature_settings().shape), (None, len(run.trained().classes)))
    found = (getattr(model, "input_shape", None), getattr(model, "output_shape", None))
    if found != expected:
        raise TrainError(
            f"{run.model} and {run.folder / 'model.json'} do not belong together: the model is from {found[0]} to "
            f"{found[1]}, expected {expected[0]} to {expected[1]}, by the features and the classes of model.json. "
            "Remove both and repeat its run or train command: it restores them from the latest checkpoint."
        )
    return model


def load_keras(path: StoragePath, advice: str) -> keras.Model:
    """Load a file of Keras in safe mode: no code in it is executed.

    Args:
        path: The file.
        advice: Last sentence of the error message.

    Raises:
        TrainError: The file is broken, or has layers of classes that this process has not imported.
    """
    with path.at_hand() as here:
        try:
            return keras.models.load_model(here, compile=False)
        except Exception as error:  # Keras raises any exception for a file that is not its own
            why = one_line((str(error).splitlines() or [type(error).__name__])[0].rstrip("."))
            raise TrainError(f"{path} is not a complete model: {why}. {advice}") from error
