"""The training step: gradients of one replica's part of a batch, and their sum over all replicas.

Random numbers are functions of (seed, step, use, row of the batch). They have no state that a checkpoint could
miss, and a batch has the same masks for any number of replicas.
"""

import dataclasses
import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from train.errors import TrainError
from train.input.batches import ReplicaBatch

_MASKS = 2  # of each kind in a segment, as in the paper's stronger policies


class _Use(enum.IntEnum):
    """Use of a random number; layer i of a model has the number DROPOUT + i."""

    FRAMES = 0
    COEFFICIENTS = 1
    DROPOUT = 2


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """Loss and augmentation settings of a training step.

    Attributes:
        seed: Random seed.
        class_weights: float32 [classes], weight of each class in the loss.
        label_smoothing: Fraction of the target that is spread evenly over all classes.
        mask_frames: Maximum width of a mask over frames; 0 for no masks.
        mask_coefficients: Maximum width of a mask over coefficients or mel bands; 0 for no masks.
        fill: float32 [features], replaces masked values: the mean of each feature.
    """

    seed: int
    class_weights: NDArray[np.float32]
    label_smoothing: float
    mask_frames: int
    mask_coefficients: int
    fill: NDArray[np.float32]


class StatelessRng:
    """Uniform random numbers for the rows of one replica's part of a batch, without state."""

    def __init__(self, seed: int, batch: ReplicaBatch) -> None:
        """Derive the key from the seed and the step of the batch."""
        self._key = tf.stack([tf.constant(seed, tf.int32), tf.cast(batch.step, tf.int32)])
        self._first, self._batch_rows = tf.cast(batch.first, tf.int32), tf.cast(batch.batch_rows, tf.int32)

    def uniform(self, use: int, rows: tf.Tensor, shape: tf.Tensor | list[int]) -> tf.Tensor:
        """Return float32 [rows, *shape] in [0, 1) for the `rows` rows of the part.

        The numbers are drawn for the whole batch, so that they do not depend on how it is divided.
        """
        key = tf.random.experimental.stateless_fold_in(self._key, use)
        drawn = tf.random.stateless_uniform(tf.concat([[self._batch_rows], shape], axis=0), key)
        return drawn[self._first : self._first + rows]


def forward(model: keras.Sequential, mfcc: tf.Tensor, rng: StatelessRng) -> tf.Tensor:
    """Apply a chain of layers in training mode, with dropout masks drawn from `rng`.

    Keras's own Dropout would give every replica the same mask, and checkpoints do not include its state.

    Args:
        model: Chain of layers that `refuse_random_layers` accepts.
        mfcc: float32 [rows, features, frames].
        rng: Random numbers for these rows.

    Returns:
        float32 [rows, classes], logits.
    """
    x = mfcc
    for index, layer in enumerate(model.layers):
        if type(layer) is keras.layers.Dropout:  # not its subclasses: SpatialDropout1D has other masks
            shape = tf.shape(x)
            kept = rng.uniform(_Use.DROPOUT + index, shape[0], shape[1:]) >= layer.rate
            x = tf.where(kept, x / (1 - layer.rate), tf.zeros_like(x))
        else:
            x = layer(x, training=True)
    return tf.cast(x, tf.float32)


def refuse_random_layers(model: keras.Sequential) -> None:
    """Check that the only random layers are Dropout directly in the chain, which `forward` replaces.

    Raises:
        TrainError: The model has other random layers.
    """
    layers = (layer for layer in model.layers if type(layer) is not keras.layers.Dropout)
    if found := [path for layer in layers for path in _random_layers(layer)]:
        raise TrainError(
            f"{', '.join(found)} of the model {model.name} draws random numbers from its own state, so "
            "replicas would share masks and a resumed run would differ. Use keras.layers.Dropout, "
            "directly in the list of layers in train/model/architectures.py and not inside another model or layer."
        )


def _random_layers(layer: keras.layers.Layer) -> list[str]:
    """Return the paths of a layer and of those inside it that have random state."""
    inside = [f"{layer.name}/{path}" for inner in getattr(layer, "layers", []) for path in _random_layers(inner)]
    # Variables of a layer that are not weights are the state of its random generator.
    return inside or ([layer.name] if len(layer.variables) > len(layer.weights) else [])


def mask(mfcc: tf.Tensor, step_config: StepConfig, rng: StatelessRng) -> tf.Tensor:
    """Replace spans of frames and of coefficients by the mean (SpecAugment, Park et al. 2019).

    Each mask has a uniformly drawn width, from 0 to `mask_frames` or `mask_coefficients`, and position.

    Args:
        mfcc: float32 [rows, features, frames].
        step_config: Maximum widths, and the mean of each feature.
        rng: Random numbers for these rows.

    Returns:
        float32 [rows, features, frames].
    """
    rows, coefficients, frames = tf.shape(mfcc)[0], mfcc.shape[1], mfcc.shape[2]
    hidden = tf.zeros((), tf.bool)
    if step_config.mask_frames:
        hidden |= _spans(rng.uniform(_Use.FRAMES, rows, [_MASKS, 2]), step_config.mask_frames, frames)[:, None, :]
    if step_config.mask_coefficients:
        drawn = rng.uniform(_Use.COEFFICIENTS, rows, [_MASKS, 2])
        hidden |= _spans(drawn, step_config.mask_coefficients, coefficients)[:, :, None]
    return tf.where(hidden, tf.constant(step_config.fill)[None, :, None], mfcc)


def _spans(drawn: tf.Tensor, widest: int, length: int) -> tf.Tensor:
    """Turn uniform numbers [rows, masks, 2] into bool [rows, length], True inside any of the masks of a row."""
    width = tf.floor(drawn[..., 0] * (widest + 1))
    start = tf.floor(drawn[..., 1] * (length - width + 1))
    position = tf.range(length, dtype=tf.float32)
    return tf.reduce_any((position >= start[..., None]) & (position < (start + width)[..., None]), axis=1)


def train_step(
    model: keras.Sequential, optimizer: keras.optimizers.Optimizer, step_config: StepConfig, batch: ReplicaBatch
) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
    """Compute loss and gradients of one replica's part of a batch.

    The sum of the losses of its rows is divided by the rows of the whole batch, so that the sum over the replicas
    is the mean over the batch.

    Args:
        model: Chain of layers.
        optimizer: Optimizer, used only to scale the loss for float16.
        step_config: Loss and augmentation settings.
        batch: Element of `SegmentStream.dataset`.

    Returns:
        float32, this replica's contribution to the loss of the batch, NaN if the batch or a gradient is not
        finite; int64, number of correctly classified rows; and the gradient of each trainable variable.
    """
    rng = StatelessRng(step_config.seed, batch)
    masks = step_config.mask_frames or step_config.mask_coefficients
    mfcc = mask(batch.mfcc, step_config, rng) if masks else batch.mfcc
    with tf.GradientTape() as tape:
        logits = forward(model, mfcc, rng)
        losses = batch.shares * _cross_entropy(batch.labels, logits, step_config)
        losses += (1 - batch.shares) * _cross_entropy(batch.others, logits, step_config)
        loss = tf.reduce_sum(losses) / tf.cast(batch.batch_rows, tf.float32)
        scaled = optimizer.scale_loss(loss)
    gradients = tape.gradient(scaled, model.trainable_variables)
    # ReLU hides NaN, so the loss still looks healthy. Gradients scaled up for float16 may overflow; the optimizer
    # skips such steps.
    sums = [tf.reduce_sum(batch.mfcc)]
    if not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        sums += [tf.reduce_sum(gradient) for gradient in gradients]
    loss = tf.where(tf.reduce_all(tf.math.is_finite(tf.stack(sums))), loss, np.nan)
    correct = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), batch.labels)
    return loss, tf.reduce_sum(tf.cast(correct, tf.int64)), gradients


def _cross_entropy(labels: tf.Tensor, logits: tf.Tensor, step_config: StepConfig) -> tf.Tensor:
    """Return the weighted cross-entropy of each row with its smoothed label, float32 [rows], in nats."""
    log_probabilities = tf.nn.log_softmax(logits)
    losses = -tf.gather(log_probabilities, labels, axis=1, batch_dims=1)
    if step_config.label_smoothing:
        uniform = -tf.reduce_mean(log_probabilities, axis=1)
        losses = (1 - step_config.label_smoothing) * losses + step_config.label_smoothing * uniform
    return losses * tf.gather(tf.constant(step_config.class_weights), labels)


class StepResults(NamedTuple):
    """Results of the steps of one call.

    Attributes:
        losses: float32 [steps], mean loss of each batch.
        correct: int64 [steps], number of correctly classified rows of each batch.
    """

    losses: tf.Tensor
    correct: tf.Tensor


def distributed_steps(
    strategy: tf.distribute.Strategy,
    model: keras.Sequential,
    optimizer: keras.optimizers.Optimizer,
    step_config: StepConfig,
    compiled: bool,
) -> Callable[[Any, tf.Tensor], StepResults]:
    """Return a function that trains the model on the next batches of a distributed iterator.

    It is traced once for any number of batches and all batch sizes, including the last batch of an epoch, so that
    a run that resumes at any batch, with any number of steps in a call, computes the same numbers.

    Args:
        strategy: Strategy in whose scope the model and the optimizer were built.
        model: Chain of layers.
        optimizer: Optimizer, built for the variables of the model.
        step_config: Loss and augmentation settings.
        compiled: Whether XLA compiles the computation of each replica.

    Returns:
        Function of a distributed iterator and the number of batches to draw from it, int32; see
        `DistributedBatches.run`. Workers that train together must give the same numbers in the same order.
    """

    def compute_gradients(batch: ReplicaBatch) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        return train_step(model, optimizer, step_config, batch)

    # XLA cannot compile operations across devices, so the gradients are summed and applied outside.
    if compiled:
        compute_gradients = tf.function(compute_gradients, jit_compile=True, autograph=False)

    def on_replica(batch: ReplicaBatch) -> tuple[tf.Tensor, tf.Tensor]:
        loss, correct, gradients = compute_gradients(batch)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss, correct

    def steps(iterator: Any, count: tf.Tensor) -> StepResults:
        add = tf.distribute.ReduceOp.SUM

        def step(index: tf.Tensor, losses: tf.TensorArray, correct: tf.TensorArray) -> tuple[Any, ...]:
            loss, rows = strategy.run(on_replica, args=(next(iterator),))
            losses = losses.write(index, strategy.reduce(add, loss, axis=None))
            return index + 1, losses, correct.write(index, strategy.reduce(add, rows, axis=None))

        begin = (
            tf.constant(0),
            tf.TensorArray(tf.float32, count, element_shape=()),
            tf.TensorArray(tf.int64, count, element_shape=()),
        )
        _, losses, correct = tf.while_loop(lambda index, *_: index < count, step, begin, parallel_iterations=1)
        return StepResults(losses.stack(), correct.stack())

    # AutoGraph writes the source of what it converts into the folder for temporary files, and leaves it there.
    traced: Callable[[Any, tf.Tensor], StepResults] = tf.function(steps, autograph=False)
    return traced
