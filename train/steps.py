"""What one replica does with its part of a batch: a training step, an evaluation step."""

import keras
import tensorflow as tf


def forward(model: keras.Sequential, mfcc: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Apply a chain of layers in training mode, its dropout masks drawn from a key.

    Keras's own Dropout would give every replica the same mask, and its state is saved nowhere; here a mask is
    a function of the key and of the layer's place, so that a resumed run draws what it would have drawn.

    Args:
        model: the layers.
        mfcc: float32 [rows, 40, 217].
        key: int32 [2].

    Returns:
        float32 [rows, classes], the logits.
    """
    x = mfcc
    for place, layer in enumerate(model.layers):
        if isinstance(layer, keras.layers.Dropout):
            mask_key = tf.random.experimental.stateless_fold_in(key, place)
            x = tf.nn.experimental.stateless_dropout(x, layer.rate, mask_key)
        else:
            x = layer(x, training=True)
    return x


def train_step(
    model: keras.Sequential,
    optimizer: keras.optimizers.Optimizer,
    class_weights: tf.Tensor,
    seed: int,
    part: tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor],
) -> tuple[tf.Tensor, tf.Tensor]:
    """Learn from one replica's part of a batch; called on all replicas at once by `Strategy.run`.

    The loss of each row is divided by the rows of the whole batch, whatever part of them is here, so that the
    sum over the replicas is the mean over the batch.

    Args:
        model: the layers.
        optimizer: sums the gradients over the replicas.
        class_weights: float32 [classes].
        seed: of the run.
        part: an element of `SegmentStream.dataset`.

    Returns:
        float32, this replica's share of the batch's loss; and int64, how many of its rows it got right.
    """
    mfcc, labels, step, rows = part
    context = tf.distribute.get_replica_context()
    replica = tf.cast(context.replica_id_in_sync_group, tf.int32)
    key = tf.stack([tf.constant(seed, tf.int32), tf.cast(step, tf.int32)])
    with tf.GradientTape() as tape:
        logits = forward(model, mfcc, tf.random.experimental.stateless_fold_in(key, replica))
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        loss = tf.reduce_sum(losses * tf.gather(class_weights, labels)) / tf.cast(rows, tf.float32)
    variables = model.trainable_variables
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
    right = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), labels)
    return loss, tf.reduce_sum(tf.cast(right, tf.int64))


def evaluation_step(
    model: keras.Sequential, part: tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the logits, float32 [rows, classes], and the labels, int32 [rows], of one replica's part."""
    mfcc, labels, _, _ = part
    return model(mfcc, training=False), labels
