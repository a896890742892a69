"""The optimizer that a config asks for: Adam, its schedule and its decay."""

import keras

from train.config import TrainConfig

# A bias or a scale is one number for many rows; there is nothing to be gained by pulling it towards nought.
_NEVER_DECAYED = ["bias", "gamma", "beta"]


def make_optimizer(config: TrainConfig, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Make the optimizer of a run; its learning rate is a function of its own count of steps."""
    rate = learning_rate(config, steps_per_epoch)
    if config.weight_decay:
        optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
        optimizer.exclude_from_weight_decay(var_names=_NEVER_DECAYED)
    else:
        optimizer = keras.optimizers.Adam(rate)
    if config.precision == "mixed_float16":
        # Gradients too small for float16 would come out as nought.
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def learning_rate(
    config: TrainConfig, steps_per_epoch: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Return the learning rate: a number, or a schedule that rises for `warmup_epochs` and then falls or stays."""
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if config.schedule == "cosine":
        falling = config.epochs * steps_per_epoch - warmup
    elif warmup:
        falling = None
    else:
        return config.learning_rate
    if falling is None:
        return keras.optimizers.schedules.PolynomialDecay(
            0.0, decay_steps=warmup, end_learning_rate=config.learning_rate
        )
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(config.learning_rate, falling)
    return keras.optimizers.schedules.CosineDecay(
        0.0, falling, warmup_target=config.learning_rate, warmup_steps=warmup
    )
