"""Loading the trained model of a run."""

import keras

from train.errors import TrainError
from train.run import Run


def load_model(run: Run) -> keras.Sequential:
    """Load the model of a run, from float32 [batch, 40, 217] to logits, float32 [batch, classes].

    Raises:
        TrainError: The file is broken.
    """
    with run.model.at_hand() as path:
        try:
            return keras.models.load_model(path, compile=False)
        except (KeyError, OSError, TypeError, ValueError) as error:
            why = str(error).splitlines()[0].rstrip(".")
            raise TrainError(
                f"{run.model} is not a complete model: {why}. Remove it and run the same earmark train again: "
                "it makes the model again from the latest checkpoint."
            ) from error
