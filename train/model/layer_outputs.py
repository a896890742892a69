"""The outputs of the layers of a model, by name."""

from typing import Any

import keras


def layer_outputs(model: keras.Model, segments: Any) -> dict[str, Any]:
    """Return the output of each layer directly in the model, in inference mode.

    Args:
        model: Chain or graph of layers.
        segments: float32 [rows, coefficients, frames], values or a `keras.Input`.

    Returns:
        Outputs by the name of the layer, in the order of the model. A layer that is used several times has its
        last output.
    """
    outputs: dict[str, Any] = {}
    if isinstance(model, keras.Sequential):
        for layer in model.layers:
            segments = outputs[layer.name] = layer(segments, training=False)
        return outputs
    symbolic = keras.Input(model.input_shape[1:])

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        result = layer(*args, **kwargs)
        if isinstance(layer, keras.layers.Layer):
            outputs[layer.name] = result
        return result

    # `layer.output` is not defined for layers that several models share.
    keras.models.clone_model(model, symbolic, clone_function=lambda layer: layer, call_function=call)
    named: dict[str, Any] = keras.Model(symbolic, outputs)(segments, training=False)
    return named
