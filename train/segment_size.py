"""Whether a network and the masks of a config fit the segments of a dataset. Imports no TensorFlow."""

from train.config import TrainConfig
from train.errors import TrainError
from train.model_names import MODELS


def refuse_unfit(shape: tuple[int, int], config: TrainConfig) -> None:
    """Check that segments are large enough for the network, and for the masks of SpecAugment.

    Args:
        shape: Features and frames of a segment.
        config: Training settings.

    Raises:
        TrainError: They are not; the message names every setting that does not fit, and the networks that do.
    """
    features, frames = shape
    problems = []
    if not _fits(config.model, shape):
        least = " x ".join(map(str, MODELS[config.model].smallest))
        others = [name for name in MODELS if _fits(name, shape)]
        advice = f"set {' or '.join(others)}" if others else "featurize longer segments"
        problems.append(f"train.model = {config.model} needs segments of {least} or more; {advice}")
    if config.mask_frames >= frames:
        problems.append(f"train.mask_frames = {config.mask_frames} must be less than the {frames} frames")
    if config.mask_coefficients >= features:
        problems.append(
            f"train.mask_coefficients = {config.mask_coefficients} must be less than the {features} features"
        )
    if problems:
        raise TrainError(
            f"segments of {features} features x {frames} frames do not fit the settings:\n"
            + "\n".join(f"  - {problem}" for problem in problems)
        )


def _fits(model: str, shape: tuple[int, int]) -> bool:
    """Return whether a network fits; one of the user's is asked when it is built."""
    return model not in MODELS or all(
        found >= least for found, least in zip(shape, MODELS[model].smallest, strict=True)
    )
