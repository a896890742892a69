"""The optimizer: Adam with a learning-rate schedule and weight decay."""

import keras

from train.config import TrainConfig

# Biases and scales are few and do not overfit, so they are not pulled toward zero.
_NEVER_DECAYED = ["bias", "gamma", "beta"]


def make_optimizer(config: TrainConfig, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Return the optimizer; its learning rate is a function of its own step counter, so that it resumes."""
    rate = learning_rate(config, steps_per_epoch)
    if config.weight_decay:
        optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
        optimizer.exclude_from_weight_decay(var_names=_NEVER_DECAYED)
    else:
        optimizer = keras.optimizers.Adam(rate)
    if config.precision == "mixed_float16":
        # Scaling keeps small gradients from underflowing to zero in float16.
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def learning_rate(
    config: TrainConfig, steps_per_epoch: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Return a constant learning rate, or a schedule: a linear warmup, then constant or cosine decay."""
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if config.schedule == "cosine":
        steps = config.epochs * steps_per_epoch
        warmup = min(warmup, steps - 1)  # with few steps per epoch, rounding could leave no step after it
        decay_steps = steps - warmup
    elif warmup:
        decay_steps = None
    else:
        return config.learning_rate
    if decay_steps is None:
        return keras.optimizers.schedules.PolynomialDecay(
            0.0, decay_steps=warmup, end_learning_rate=config.learning_rate
        )
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(config.learning_rate, decay_steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0, decay_steps, warmup_target=config.learning_rate, warmup_steps=warmup
    )
