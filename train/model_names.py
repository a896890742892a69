"""The table of models: name, description, and whether the model has batch normalization. Imports nothing heavy.

`train.model.architectures` holds the layers of each; adding a model is one entry here and one there.
"""

import dataclasses
from typing import TYPE_CHECKING, Literal


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """What the settings and the training step need to know of a model before it is built.

    Attributes:
        description: Shown with the setting `train.model`.
        batch_norm: Whether a layer normalizes over the batch, which several replicas must do together.
    """

    description: str
    batch_norm: bool


MODELS = {
    "conv2": ModelSpec("published, two convolutions", batch_norm=False),
    "conv3": ModelSpec("published, three convolutions", batch_norm=False),
    "conv3-norm": ModelSpec("published, three convolutions and batch normalization", batch_norm=True),
    "modulation": ModelSpec("filters over each coefficient's course in time", batch_norm=True),
}

if TYPE_CHECKING:
    ModelName = str
else:  # mypy accepts no computed Literal; pydantic validates against it and lists the names
    ModelName = Literal[tuple(MODELS)]


def describe_models() -> str:
    """Return all names with their descriptions, in one line."""
    return "; ".join(f"{name} ({spec.description})" for name, spec in MODELS.items())
