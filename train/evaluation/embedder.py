"""Embeddings of segments: the output of a hidden layer of a trained model."""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from featurize.display import one_line
from train.errors import TrainError
from train.evaluation.inference import load_model
from train.model.ensemble import member_name
from train.run import Run

_BATCH_SIZE = 1024  # segments
_MOST_VALUES = 1 << 16  # of one embedding


class Embedder:
    """The layers of a trained model up to a hidden one.

    Attributes:
        layer: What the embeddings are, such as `output of dense`.
        size: Number of values of an embedding.
    """

    def __init__(self, run: Run, layer: str | None = None, trust_code: bool = False) -> None:
        """Load the model of a run.

        Args:
            run: Run folder.
            layer: Name of the layer; None for the input of the last layer with weights, which computes the logits.
                For an ensemble, that of each member: the embeddings are joined.
            trust_code: As in `load_model`.

        Raises:
            TrainError: The run has no model, or the layer is unknown or has no output of one reasonable size.
        """
        model = load_model(run, trust_code)
        models = _members(run, model)
        tensors = []
        for each in models:
            tensor, self.layer = _input_of_head(each) if layer is None else (_output_of(each, layer), layer)
            tensors.append(tensor)
        shapes = [tensor.shape[1:] if hasattr(tensor, "shape") else (None,) for tensor in tensors]
        sizes = [0 if None in shape else math.prod(shape) for shape in shapes]
        self.size = sum(sizes) if all(sizes) else 0
        if not 0 < self.size <= _MOST_VALUES:
            found = f"{self.size:,} values" if self.size else "no fixed number of values"
            raise TrainError(
                f"the output of {one_line(self.layer)} has {found} for each segment, expected at most "
                f"{_MOST_VALUES:,}. Give a later layer with --layer: {_names(models[0])}"
            )
        graphs = [keras.Model(each.inputs[0], tensor) for each, tensor in zip(models, tensors, strict=True)]

        def values(segments: tf.Tensor) -> tf.Tensor:
            parts = [tf.cast(graph(segments, training=False), tf.float32) for graph in graphs]
            return tf.concat(
                [tf.reshape(part, (-1, size)) for part, size in zip(parts, sizes, strict=True)], axis=1
            )

        self._values = tf.function(
            values,
            input_signature=[tf.TensorSpec(model.input_shape, tf.float32)],
            autograph=False,
        )

    def embed(self, segments: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the embeddings of segments.

        Args:
            segments: float32 [tracks, segments, coefficients, frames], in dB, as the featurizer computes them.

        Returns:
            float32 [tracks, segments, size].
        """
        rows = segments.reshape(-1, *segments.shape[2:])
        parts = [self._values(rows[i : i + _BATCH_SIZE]).numpy() for i in range(0, len(rows), _BATCH_SIZE)]
        values = np.concatenate([np.empty((0, self.size), np.float32), *parts])
        return values.reshape(*segments.shape[:2], self.size)


def _members(run: Run, model: keras.Model) -> list[keras.Model]:
    """Return the members of an ensemble, or the model itself if it is none."""
    count = run.trained().members
    if count is None:
        return [model]
    models = {layer.name: layer for layer in model.layers if isinstance(layer, keras.Model)}
    found = [models[name] for name in map(member_name, range(count)) if name in models]
    if len(found) < count:
        raise TrainError(
            f"{run.model} and {run.folder / 'model.json'} do not belong together: the model has {len(found)} "
            f"members, expected {count}. Remove both and repeat its run or train command: it restores them."
        )
    return found


def _input_of_head(model: keras.Model) -> tuple[Any, str]:
    head = [layer for layer in model.layers if layer.weights][-1]
    return head.input, f"input of {head.name}"


def _output_of(model: keras.Model, name: str) -> Any:
    """Return the output of a layer; raise a TrainError with the names of all layers if there is none."""
    found = [layer for layer in model.layers if layer.name == name]
    if not found:
        raise TrainError(f"--layer {one_line(name)}: the model has no such layer. It has {_names(model)}")
    try:
        return found[0].output
    except AttributeError as error:  # it is used several times
        raise TrainError(
            f"--layer {one_line(name)}: the model uses this layer several times. Give another one: {_names(model)}"
        ) from error


def _names(model: keras.Model) -> str:
    return ", ".join(one_line(layer.name) for layer in model.layers)
