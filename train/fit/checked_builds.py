"""A user's model is built twice and checked before it is trained."""

from train.config import TrainConfig
from train.fit.model_checks import refuse_unsuitable
from train.model.code_file import ModelCode
from train.model.custom import call_builder, has_batch_normalization, start_build


def refuse_untrainable(
    code: ModelCode,
    config: TrainConfig,
    input_shape: tuple[int, ...],
    classes: int,
    steps_per_epoch: int,
    precision: str,
) -> bool:
    """Build a user's model twice, and refuse it if it cannot be trained; return whether it has batch norm."""
    builds = []
    for _ in range(2):
        start_build(config.seed)
        builds.append(call_builder(code, input_shape, classes, config, precision))
    steps = steps_per_epoch * config.epochs
    refuse_unsuitable(builds[0], builds[1], code.name.recorded, input_shape, classes, steps)
    return has_batch_normalization(builds[0])
