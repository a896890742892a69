"""The table of models: name, description, and whether the model has batch normalization; imports no TensorFlow.

`train.model.architectures` has the layers of each. To add a model, add one entry here and one there.
"""

import dataclasses
from typing import TYPE_CHECKING, Literal


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """Properties of a model that are needed before it is built.

    Attributes:
        description: Shown with the setting `train.model`.
        batch_norm: Whether the model has batch normalization, which must use the batch of all replicas.
        smallest: Features and frames that a segment must have at least.
    """

    description: str
    batch_norm: bool
    smallest: tuple[int, int]


MODELS = {
    "conv2": ModelSpec("published, two convolutions", batch_norm=False, smallest=(16, 16)),
    "conv3": ModelSpec("published, three convolutions", batch_norm=False, smallest=(36, 36)),
    "conv3-norm": ModelSpec(
        "published, three convolutions and batch normalization", batch_norm=True, smallest=(36, 36)
    ),
    "modulation": ModelSpec("filters over each coefficient's course in time", batch_norm=True, smallest=(1, 26)),
}

if TYPE_CHECKING:
    ModelName = str
else:  # mypy does not accept a computed Literal; pydantic validates against it and lists the names
    ModelName = Literal[tuple(MODELS)]


def describe_models() -> str:
    """Return all names with their descriptions, in one line."""
    return "; ".join(f"{name} ({spec.description})" for name, spec in MODELS.items())
