"""What one replica does with its part of a batch: a training step, an evaluation step.

Random numbers are functions of (seed, step, use, row of the batch). They need no state that could be lost, and a
batch has the same masks however many replicas share it.
"""

import dataclasses
import enum
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from train.errors import TrainError
from train.input.batches import ReplicaBatch

_MASKS = 2  # of each kind in a segment, as in the paper's stronger policies


class _Use(enum.IntEnum):
    """What a random number is for; the layers of a model count on from DROPOUT."""

    FRAMES = 0
    COEFFICIENTS = 1
    DROPOUT = 2


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """How a model is to learn from a batch.

    Attributes:
        seed: of the random numbers.
        class_weights: float32 [classes], of each row in the loss.
        label_smoothing: the share of the target that is spread over all classes.
        mask_frames: the widest mask over frames; 0 for none.
        mask_coefficients: the widest mask over coefficients; 0 for none.
        fill: float32 [40], what a masked coefficient is set to: its mean.
    """

    seed: int
    class_weights: NDArray[np.float32]
    label_smoothing: float
    mask_frames: int
    mask_coefficients: int
    fill: NDArray[np.float32]


class StatelessRng:
    """Uniform random numbers for the rows of one part of a batch."""

    def __init__(self, seed: int, batch: ReplicaBatch) -> None:
        """Key them by the seed and the step."""
        self._key = tf.stack([tf.constant(seed, tf.int32), tf.cast(batch.step, tf.int32)])
        self._first, self._rows = tf.cast(batch.first, tf.int32), tf.cast(batch.batch_rows, tf.int32)

    def uniform(self, use: int, here: tf.Tensor, shape: tf.Tensor | list[int]) -> tf.Tensor:
        """Return float32 [here, *shape] in [0, 1) for the part's `here` rows.

        They are drawn for the whole batch, and those of the part are taken.
        """
        key = tf.random.experimental.stateless_fold_in(self._key, use)
        drawn = tf.random.stateless_uniform(tf.concat([[self._rows], shape], axis=0), key)
        return drawn[self._first : self._first + here]


def forward(model: keras.Sequential, mfcc: tf.Tensor, rng: StatelessRng) -> tf.Tensor:
    """Apply a chain of layers in training mode, with dropout masks drawn from `rng`.

    Keras's own Dropout would give every replica the same mask, and no checkpoint holds its state.

    Args:
        model: Chain of layers that `refuse_random_layers` accepts.
        mfcc: float32 [rows, 40, 217].
        rng: Random numbers of the batch that the rows belong to.

    Returns:
        float32 [rows, classes], the logits.
    """
    x = mfcc
    for place, layer in enumerate(model.layers):
        if type(layer) is keras.layers.Dropout:  # no subclass: SpatialDropout1D, for one, has other masks
            shape = tf.shape(x)
            kept = rng.uniform(_Use.DROPOUT + place, shape[0], shape[1:]) >= layer.rate
            x = tf.where(kept, x / (1 - layer.rate), tf.zeros_like(x))
        else:
            x = layer(x, training=True)
    return tf.cast(x, tf.float32)


def refuse_random_layers(model: keras.Sequential) -> None:
    """Refuse a model with a random layer that `forward` cannot replace: any but Dropout in the chain itself.

    Raises:
        TrainError: The model has such layers.
    """
    layers = (layer for layer in model.layers if type(layer) is not keras.layers.Dropout)
    if found := [path for layer in layers for path in _random_layers(layer)]:
        raise TrainError(
            f"{', '.join(found)} of the model {model.name} draws random numbers from a state of its own, so "
            "replicas would share masks and a resumed run would differ. Use keras.layers.Dropout, "
            "directly in the list of layers in train/model/architectures.py and not inside another model or layer."
        )


def _random_layers(layer: keras.layers.Layer) -> list[str]:
    """Return the paths of a layer and of those inside it that have random state."""
    inside = [f"{layer.name}/{path}" for inner in getattr(layer, "layers", []) for path in _random_layers(inner)]
    # The variables that are no weights of a layer are its random seeds.
    return inside or ([layer.name] if len(layer.variables) > len(layer.weights) else [])


def mask(mfcc: tf.Tensor, step_config: StepConfig, rng: StatelessRng) -> tf.Tensor:
    """Hide spans of frames and of coefficients behind the mean (SpecAugment, Park et al. 2019).

    Each mask is 0 to `mask_frames` or `mask_coefficients` wide, and anywhere.
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
    """Turn uniform numbers [rows, masks, 2] into bool [rows, length], True where one of a row's masks lies."""
    width = tf.floor(drawn[..., 0] * (widest + 1))
    start = tf.floor(drawn[..., 1] * (length - width + 1))
    place = tf.range(length, dtype=tf.float32)
    return tf.reduce_any((place >= start[..., None]) & (place < (start + width)[..., None]), axis=1)


def train_step(
    model: keras.Sequential, optimizer: keras.optimizers.Optimizer, step_config: StepConfig, batch: ReplicaBatch
) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
    """Find out what to learn from one replica's part of a batch.

    The loss of each row is divided by the rows of the whole batch, whatever part of them is here, so that the
    sum over the replicas is the mean over the batch.

    Args:
        model: the layers.
        optimizer: only to scale the loss, where it does that.
        step_config: Loss and augmentation settings.
        batch: an element of `SegmentStream.dataset`.

    Returns:
        float32, this replica's share of the batch's loss, NaN where a number of the batch or of a gradient is
        none; int64, how many of its rows it got right; and the gradient of each trainable variable.
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
    # A ReLU makes nought of NaN, and the loss looks well while the weights are lost. Gradients that are scaled
    # up for float16 may overflow: the optimizer leaves such steps out.
    sums = [tf.reduce_sum(batch.mfcc)]
    if not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        sums += [tf.reduce_sum(gradient) for gradient in gradients]
    loss = tf.where(tf.reduce_all(tf.math.is_finite(tf.stack(sums))), loss, np.nan)
    correct = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), batch.labels)
    return loss, tf.reduce_sum(tf.cast(correct, tf.int64)), gradients


def _cross_entropy(labels: tf.Tensor, logits: tf.Tensor, step_config: StepConfig) -> tf.Tensor:
    """Return the weighed cross-entropy of each row with its smoothed label, float32 [rows], in nats."""
    likelihoods = tf.nn.log_softmax(logits)
    losses = -tf.gather(likelihoods, labels, axis=1, batch_dims=1)
    if step_config.label_smoothing:
        evenly = -tf.reduce_mean(likelihoods, axis=1)
        losses = (1 - step_config.label_smoothing) * losses + step_config.label_smoothing * evenly
    return losses * tf.gather(tf.constant(step_config.class_weights), labels)


def distributed_step(
    strategy: tf.distribute.Strategy,
    model: keras.Sequential,
    optimizer: keras.optimizers.Optimizer,
    step_config: StepConfig,
    spec: Any,
    compiled: bool,
) -> Any:
    """Return a function of one distributed batch of some spec, which learns from it.

    It is traced once for all sizes of batches, the ragged last one included, so that a run which goes on with
    another batch than the first computes what it would have computed.

    Returns:
        a function to the mean loss, float32; and how many rows were classified right, int64.
    """

    def compute_gradients(batch: ReplicaBatch) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        return train_step(model, optimizer, step_config, batch)

    # XLA cannot compile what goes over several devices, so the gradients are added up and applied outside.
    compute_gradients = tf.function(compute_gradients, jit_compile=True) if compiled else compute_gradients

    def on_replica(batch: ReplicaBatch) -> tuple[tf.Tensor, tf.Tensor]:
        loss, correct, gradients = compute_gradients(batch)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss, correct

    def step(batch: ReplicaBatch) -> tuple[tf.Tensor, tf.Tensor]:
        loss, correct = strategy.run(on_replica, args=(batch,))
        total = tf.distribute.ReduceOp.SUM
        return strategy.reduce(total, loss, axis=None), strategy.reduce(total, correct, axis=None)

    return tf.function(step, input_signature=[spec])
