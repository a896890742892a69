"""What training asks of a user's model: each check returns a sentence for each breach.

Replicas that train together, and a run that resumes, must compute the bits of one uninterrupted process, and
`model.keras` must be loaded without the code that built it. The checks look at the layers, then run a few rows.
"""

import os
import tempfile
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from featurize.display import one_line
from train.errors import TrainError
from train.fit.forward import StatelessRng, random_layers, training_forward
from train.input.batches import ReplicaBatch
from train.model.custom import all_layers

_ROWS = 4
_LARGEST_MOMENTUM = 0.9
_LARGEST_REST = 0.01  # of the initial statistics of batch normalization after training
_TOLERANCE = 1e-3  # relative; convolutions over fewer rows may sum in another order


def refuse_unsuitable(
    model: Any, again: Any, name: str, input_shape: tuple[int, ...], classes: int, steps: int
) -> None:
    """Check a user's model before it is trained.

    Args:
        model: What the user's function returned.
        again: What it returned when it was called a second time, with the same seed.
        name: The function, for the message.
        input_shape: Shape of a segment, without the batch.
        classes: Number of classes.
        steps: Number of steps of the whole training.

    Raises:
        TrainError: At least one check fails; the message has a line for each breach.
    """
    problems = _not_a_model(model, input_shape, classes) or [
        *_layer_breaches(model, steps),
        *_different_builds(model, again),
        *_added_losses(model),
        *_breaches_in_use(model),
    ]
    if problems:
        raise TrainError(
            f"the model of {name} cannot be trained:\n" + "\n".join(f"  - {one_line(line)}" for line in problems)
        )


def _not_a_model(model: Any, input_shape: tuple[int, ...], classes: int) -> list[str]:
    """Return why the result of a user's function is no model from segments to logits, which other checks need."""
    if not isinstance(model, keras.Model):
        return [f"it is {type(model).__name__}, expected a Keras model: did the function return it?"]
    if not (isinstance(model, keras.Sequential) or type(model).__module__.startswith("keras.")):
        return [
            f"it is a subclass of keras.Model ({type(model).__name__}), which cannot be checked or loaded without "
            "its code; expected keras.Sequential, or keras.Model(inputs, outputs)"
        ]
    if not (model.built and getattr(model, "inputs", None)):
        return ["it has no input: begin with keras.Input(input_shape)"]
    problems = []
    if len(model.inputs) != 1 or tuple(model.inputs[0].shape) != (None, *input_shape):
        shapes = ", ".join(str(tuple(each.shape)) for each in model.inputs)
        problems.append(f"its input has the shape {shapes}, expected {(None, *input_shape)}: the batch, a segment")
    if len(model.outputs) != 1 or tuple(model.outputs[0].shape) != (None, classes):
        shapes = ", ".join(str(tuple(each.shape)) for each in model.outputs)
        problems.append(f"its output has the shape {shapes}, expected {(None, classes)}: a logit for each class")
    if not model.trainable_variables:
        problems.append("it has no weights to train")
    return problems


def _layer_breaches(model: keras.Model, steps: int) -> list[str]:
    problems = [
        f"{path} draws random numbers from its own state, so replicas would share masks and a resumed run would "
        "differ: use keras.layers.Dropout, directly in the model and not inside another layer"
        for path in random_layers(model)
    ]
    if (dtype := model.outputs[0].dtype) != "float32":
        problems.append(f"its logits are {dtype}, expected float32: give the last layer dtype='float32'")
    last = getattr(model.outputs[0]._keras_history.operation, "activation", None)
    if last in (keras.activations.sigmoid, keras.activations.hard_sigmoid):
        problems.append(
            f"its outputs have the activation {last.__name__}: leave it out, because the loss and predictions "
            "apply the softmax to the logits"
        )
    problems += [
        f"{variable.path} is {variable.dtype}, expected float32 weights"
        for variable in model.trainable_variables
        if variable.dtype != "float32"
    ]
    for layer in all_layers(model):
        problems += [f"{layer.name} {problem}" for problem in _breaches_of_layer(layer, steps)]
    if not isinstance(model, keras.Sequential):
        problems += _repeated_dropout(model)
    return problems


def _breaches_of_layer(layer: keras.layers.Layer, steps: int) -> list[str]:
    problems = []
    if isinstance(layer, keras.layers.Lambda):
        problems.append(
            "is a Lambda layer, whose code would be executed by whoever loads the model: use keras.ops on the "
            "tensors, or a layer class of your own"
        )
    if type(layer) is keras.layers.Dropout and layer.noise_shape is not None:
        problems.append("has a noise_shape, which training does not use: leave it out")
    if isinstance(layer, keras.layers.BatchNormalization) and layer.momentum > _LARGEST_MOMENTUM:
        rest = layer.momentum**steps
        if rest > _LARGEST_REST:
            problems.append(
                f"has momentum {layer.momentum:g}: after the {steps} steps of this training, its statistics would "
                f"still be {rest:.0%} the initial ones. Set momentum={_LARGEST_MOMENTUM:g} or lower"
            )
    return problems


def _repeated_dropout(model: keras.Model) -> list[str]:
    calls: dict[str, int] = {}

    def count(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if type(layer) is keras.layers.Dropout:
            calls[layer.name] = calls.get(layer.name, 0) + 1
        return layer(*args, **kwargs)

    keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=count)
    return [
        f"{name} is used {times} times, and would have the same mask each time: make a Dropout layer for each"
        for name, times in calls.items()
        if times > 1
    ]


def _different_builds(model: keras.Model, again: keras.Model) -> list[str]:
    first, second = model.get_weights(), again.get_weights()
    same = len(first) == len(second) and all(
        one.shape == other.shape and np.allclose(one, other, rtol=_TOLERANCE, atol=1e-6)
        for one, other in zip(first, second, strict=True)
    )
    if same and [each.name for each in model.layers] == [each.name for each in again.layers]:
        return []
    return [
        "the function returns another model each time, although the random seed is the same: draw random numbers "
        "with a fixed seed, and depend on nothing else that changes"
    ]


def _added_losses(model: keras.Model) -> list[str]:
    model(tf.zeros((1, *model.inputs[0].shape[1:])), training=False)  # losses of activities are there after a call
    if not model.losses:
        return []
    return [
        "a layer adds a loss, such as a kernel_regularizer or an activity_regularizer, which training ignores: "
        "use train.weight_decay"
    ]


def _breaches_in_use(model: keras.Model) -> list[str]:
    """Return breaches that show when a few rows go through the model in training and in inference."""
    shape = (_ROWS, *model.inputs[0].shape[1:])
    rows = tf.constant(np.random.default_rng(0).normal(0, 10, shape), tf.float32)
    if random_layers(model):
        return []  # named already; they would also show here
    forward, weights = training_forward(model), model.get_weights()

    def trained(first: int, last: int) -> Any:
        part = ReplicaBatch(None, None, None, None, tf.constant(0), tf.constant(first), tf.constant(_ROWS))
        return forward(rows[first:last], StatelessRng(0, part))

    with tf.GradientTape() as tape:
        outputs = trained(0, _ROWS)
    gradients = tape.gradient(outputs, model.trainable_variables)
    problems = [
        f"the logits do not depend on {variable.path} (it has no gradient)"
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True)
        if gradient is None
    ]
    for layer in all_layers(model):
        if not isinstance(layer, keras.layers.BatchNormalization) and not getattr(layer, "layers", None):
            problems += _changed_in_training(layer, weights, model)
    model.set_weights(weights)
    if problems:
        return problems  # which the other checks would find again
    if not np.array_equal(outputs, trained(0, _ROWS), equal_nan=True):
        problems.append(
            "it gives other logits for the same rows and the same random numbers: a custom layer draws random "
            "numbers or keeps a state"
        )
    model.set_weights(weights)
    logits = model(rows, training=False).numpy()
    halves = np.concatenate([model(rows[:1], training=False).numpy(), model(rows[1:], training=False).numpy()])
    if not np.isfinite(logits).all():
        problems.append("its logits are not finite")
    elif not np.allclose(logits, halves, rtol=_TOLERANCE, atol=_TOLERANCE * np.abs(logits).max()):
        problems.append("the logits of a row depend on the other rows of its batch, which replicas divide")
    elif logits.shape[1] > 1 and (logits >= 0).all() and np.allclose(logits.sum(axis=1), 1, atol=1e-3):
        problems.append(
            "its outputs are probabilities: leave out the softmax, because the loss and predictions apply it to "
            "the logits"
        )
    return problems + _not_loadable(model, rows, logits)


def _changed_in_training(layer: keras.layers.Layer, weights: list[Any], model: keras.Model) -> list[str]:
    before = {id(variable): value for variable, value in zip(model.weights, weights, strict=True)}
    return [
        f"{variable.path} changes in training, on each replica by itself: only keras.layers.BatchNormalization "
        "may have such variables"
        for variable in layer._non_trainable_variables
        if id(variable) in before and not np.array_equal(before[id(variable)], variable)
    ]


def _not_loadable(model: keras.Model, rows: tf.Tensor, logits: Any) -> list[str]:
    """Return why `model.keras` could not be loaded again in Keras's safe mode."""
    if any(isinstance(layer, keras.layers.Lambda) for layer in all_layers(model)):
        return []  # named already
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        try:
            model.save(path)
            loaded = keras.models.load_model(path, compile=False)
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            return [
                f"it cannot be saved and loaded: {reason} A layer class of your own needs "
                "@keras.saving.register_keras_serializable() above it, and get_config"
            ]
    if not np.allclose(loaded(rows, training=False), logits, rtol=_TOLERANCE, atol=_TOLERANCE):
        return ["after saving and loading it gives other logits: get_config of a layer lacks an argument"]
    return []
