"""A model that a function of the user builds, and the layers of models that Earmark sets up itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from train.config import TrainConfig
from train.model.code_file import ModelCode
from train.model.normalization import Statistics, input_normalization
from train.model.user_code import explained, load_code


def start_build(seed: int) -> None:
    """Reset the random numbers and names of Keras, so that a function builds the same model each time.

    Args:
        seed: Random seed.
    """
    keras.backend.clear_session()  # not in the scope of a strategy, which it would break
    keras.utils.set_random_seed(seed)


def call_builder(
    code: ModelCode, input_shape: tuple[int, ...], classes: int, config: TrainConfig, precision: str
) -> Any:
    """Return what the user's function returns; see `start_build`.

    Args:
        code: Code of the model.
        input_shape: Shape of a segment, without the batch.
        classes: Number of classes.
        config: Settings; the function gets a copy.
        precision: Data type in which its layers compute, from `train.model.strategy.resolve_precision`.

    Raises:
        TrainError: The code raises an exception; the message has its lines.
    """
    function = load_code(code)
    with (
        _dtype_policy(precision),
        explained(code, f"{code.name.recorded} cannot build a model for {input_shape} and {classes} classes"),
    ):
        return _without_structure(function(input_shape, classes, config.model_copy(deep=True)))


def _without_structure(model: Any) -> Any:
    """Return a graph with one input and one output, such as `keras.Model([x], {"y": y})`, without list or dict.

    Calls of the model then take and return a tensor, as all that trains and exports it expects.
    """
    if not isinstance(model, keras.Model) or not type(model).__module__.startswith("keras."):
        return model
    if isinstance(model, keras.Sequential) or not (len(model.inputs or ()) == len(model.outputs or ()) == 1):
        return model
    if isinstance(model.input, keras.KerasTensor) and isinstance(model.output, keras.KerasTensor):
        return model
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def set_up(model: keras.Model, normalize_by: Statistics | None, synchronized: bool) -> keras.Model:
    """Add the input normalization to a user's model, and let its batch normalization use all replicas.

    Args:
        model: Chain or graph of layers.
        normalize_by: Statistics for a first layer that normalizes the input; None for no such layer.
        synchronized: Whether batch normalization uses the batch of all replicas.
    """
    for layer in all_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = synchronized
    if normalize_by is None:
        return model
    normalization = input_normalization(normalize_by)
    inputs = keras.Input(model.input_shape[1:], name="segments")
    if isinstance(model, keras.Sequential):
        return keras.Sequential([inputs, normalization, *model.layers], name=model.name)
    # `call`, because the model itself would be one layer in another one, and its dropout would be out of reach.
    return keras.Model(inputs, model.call(normalization(inputs)), name=model.name)


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers of a model, and those inside them."""
    return list(model._flatten_layers(include_self=False, recursive=True))


def has_batch_normalization(model: keras.Model) -> bool:
    """Return whether a layer of the model normalizes by its batch."""
    return any(isinstance(layer, keras.layers.BatchNormalization) for layer in all_layers(model))


@contextmanager
def _dtype_policy(precision: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
