"""The training step: gradients of one replica's part of a batch, and their sum over all replicas.

Random numbers are functions of (seed, step, use, row of the batch). They have no state that a checkpoint could
miss, and a batch has the same masks for any number of replicas.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from train.fit.forward import Forward, StatelessRng, Use, training_forward
from train.fit.weight_average import WeightAverage
from train.input.batches import ReplicaBatch

_MASKS = 2  # of each kind in a segment, as in the paper's stronger policies


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
        hidden |= _spans(rng.uniform(Use.FRAMES, rows, [_MASKS, 2]), step_config.mask_frames, frames)[:, None, :]
    if step_config.mask_coefficients:
        drawn = rng.uniform(Use.COEFFICIENTS, rows, [_MASKS, 2])
        hidden |= _spans(drawn, step_config.mask_coefficients, coefficients)[:, :, None]
    return tf.where(hidden, tf.constant(step_config.fill)[None, :, None], mfcc)


def _spans(drawn: tf.Tensor, widest: int, length: int) -> tf.Tensor:
    """Turn uniform numbers [rows, masks, 2] into bool [rows, length], True inside any of the masks of a row."""
    width = tf.floor(drawn[..., 0] * (widest + 1))
    start = tf.floor(drawn[..., 1] * (length - width + 1))
    position = tf.range(length, dtype=tf.float32)
    return tf.reduce_any((position >= start[..., None]) & (position < (start + width)[..., None]), axis=1)


def train_step(
    model: keras.Model,
    forward: Forward,
    optimizer: keras.optimizers.Optimizer,
    step_config: StepConfig,
    batch: ReplicaBatch,
) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
    """Compute loss and gradients of one replica's part of a batch.

    The sum of the losses of its rows is divided by the rows of the whole batch, so that the sum over the replicas
    is the mean over the batch.

    Args:
        model: Model whose trainable variables are learned.
        forward: Its forward pass, from `training_forward`.
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
        logits = forward(mfcc, rng)
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


def _overflowing_together(gradients: list[tf.Tensor]) -> list[tf.Tensor]:
    """Return the gradients of this replica; NaN if those of any replica are not finite.

    LossScaleOptimizer looks at the gradients of one replica before those of all are added, and takes what it finds
    for all: an overflow on another replica would reach the weights. Workers would not even make the same calls.
    """
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
    context = tf.distribute.get_replica_context()
    overflows = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.where(finite, 0.0, 1.0))
    return [tf.where(overflows > 0, np.nan, gradient) for gradient in gradients]


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
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    step_config: StepConfig,
    compiled: bool,
    average: WeightAverage | None = None,
) -> Callable[[Any, tf.Tensor], StepResults]:
    """Return a function that trains the model on the next batches of a distributed iterator.

    It is traced once for any number of batches and all batch sizes, including the last batch of an epoch, so that
    a run that resumes at any batch, with any number of steps in a call, computes the same numbers.

    Args:
        strategy: Strategy in whose scope the model and the optimizer were built.
        model: Model.
        optimizer: Optimizer, built for the variables of the model.
        step_config: Loss and augmentation settings.
        compiled: Whether XLA compiles the computation of each replica.
        average: Average of the weights, updated after each step; None without one.

    Returns:
        Function of a distributed iterator and the number of batches to draw from it, int32; see
        `DistributedBatches.run`. Workers that train together must give the same numbers in the same order.
    """
    with strategy.scope():
        forward = training_forward(model)

    def compute_gradients(batch: ReplicaBatch) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        return train_step(model, forward, optimizer, step_config, batch)

    # XLA cannot compile operations across devices, so the gradients are summed and applied outside.
    if compiled:
        compute_gradients = tf.function(compute_gradients, jit_compile=True, autograph=False)

    may_overflow = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)

    def on_replica(batch: ReplicaBatch) -> tuple[tf.Tensor, tf.Tensor]:
        loss, correct, gradients = compute_gradients(batch)
        if may_overflow and strategy.num_replicas_in_sync > 1:
            gradients = _overflowing_together(gradients)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss, correct

    def steps(iterator: Any, count: tf.Tensor) -> StepResults:
        add = tf.distribute.ReduceOp.SUM

        def step(index: tf.Tensor, losses: tf.TensorArray, correct: tf.TensorArray) -> tuple[Any, ...]:
            loss, rows = strategy.run(on_replica, args=(next(iterator),))
            if average:
                average.update(strategy, model, optimizer)
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
