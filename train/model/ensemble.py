"""Several models as one, whose probabilities are the mean of theirs (`train.ensemble`)."""

from collections.abc import Sequence

import keras
import numpy as np


def combine(models: Sequence[keras.Model]) -> keras.Model:
    """Return a model whose probabilities are the mean of those of the members.

    The mean of probabilities and not of logits: a member that is sure of a class cannot outvote all others, and it
    is what the mean over the segments of a track is. All layers are Keras's, so the model can be loaded without
    Earmark, unless the members have other layers.

    Args:
        models: Trained models from float32 [batch, features, frames] to logits, float32 [batch, classes]. Their
            names are changed.

    Returns:
        Model from the same input to float32 [batch, classes]: the logarithm of the mean probability, of which the
        softmax is that mean.
    """
    segments = keras.Input(models[0].input_shape[1:], name=models[0].inputs[0].name)
    outputs = []
    for number, model in enumerate(models):
        model.name = member_name(number)
        outputs.append(keras.ops.log_softmax(model(segments), axis=-1))
    total = keras.ops.logsumexp(keras.ops.stack(outputs, axis=0), axis=0)
    # Its scale is 1, or that of `train.calibrate`.
    logits = keras.layers.Rescaling(1.0, float(-np.log(len(models))), dtype="float32", name="logits")(total)
    return keras.Model(segments, logits, name="ensemble")


def member_name(number: int) -> str:
    """Return the name of the layer that a member is in the model of an ensemble."""
    return f"member_{number}"
