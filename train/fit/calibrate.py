"""Temperature scaling of a trained model, so that its confidence is its accuracy (`train.calibrate`)."""

import logging

import keras
import numpy as np
import tensorflow as tf

from train.evaluation.calibration import fit_temperature
from train.evaluation.held_out import HeldOut
from train.evaluation.metrics import Float64, Int32
from train.evaluation.predictor import Predictor

_MOST_PROBABILITIES = 1 << 24  # of the validation fold, that one number is fitted to: 134 MB

_log = logging.getLogger(__name__)


def calibrate(model: keras.Model, strategy: tf.distribute.Strategy, validation: HeldOut) -> float | None:
    """Divide the logits of a model by the temperature that fits the validation fold best.

    The weights of the last layer are divided, so that every export of the model is calibrated as well; which class
    of a segment is the most probable does not change.

    Args:
        model: Trained model; its last layer is a dense layer without activation, or that of an ensemble.
        strategy: Strategy under which it was built.
        validation: The validation fold.

    Returns:
        The temperature; None if the last layer is another one, which is logged.
    """
    last = model.layers[-1]
    is_output = model.outputs[0]._keras_history.operation is last  # `layers` leaves out operations of keras.ops
    is_dense = type(last) is keras.layers.Dense and last.activation is keras.activations.linear
    is_rescaling = type(last) is keras.layers.Rescaling and np.ndim(last.scale) == np.ndim(last.offset) == 0
    if not (is_output and (is_dense or is_rescaling)):
        _log.warning(
            f"train.calibrate: the last layer of the model, {last.name}, is no dense layer without activation, so "
            "its confidence is left as it is."
        )
        return None
    temperature = fit_temperature(*_predictions(Predictor(strategy, model), validation), validation.per_track)
    if is_rescaling:
        last.scale /= temperature
        last.offset /= temperature
    else:
        last.set_weights([weight / temperature for weight in last.get_weights()])
    _log.info(f"Calibrated: logits are divided by {temperature:.3f}, which fits the validation fold best.")
    return temperature


def _predictions(predictor: Predictor, fold: HeldOut) -> tuple[Float64, Int32]:
    """Return the probabilities and labels of the first segments of a fold, of whole tracks."""
    parts: list[tuple[Float64, Int32]] = []

    def receive(probabilities: Float64, labels: Int32) -> None:
        if sum(part.size for part, _ in parts) < _MOST_PROBABILITIES:
            parts.append((probabilities, labels))

    fold.score(predictor, receive)
    probabilities, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    rows = len(labels) // fold.per_track * fold.per_track
    return probabilities[:rows], labels[:rows]
