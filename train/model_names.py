"""The table of models, and how `train.model` names code of the user instead; imports no TensorFlow.

`train.model.architectures` has the layers of each model. To add one, add one entry here and one there.
"""

import dataclasses
import re
from typing import Annotated

from pydantic import AfterValidator


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

_FUNCTION = re.compile(r"(?P<source>.+\.py(?:\?.+)?|[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<function>[^\W\d]\w*)")


@dataclasses.dataclass(frozen=True)
class FunctionName:
    """A function of the user that builds the model, as `train.model` names it.

    Attributes:
        source: Path or URI of a file that ends in .py, or the name of a module, such as package.module.
        function: Name of the function.
    """

    source: str
    function: str

    @property
    def is_file(self) -> bool:
        """Whether the source is a file, and not the name of a module."""
        return self.source.partition("?")[0].endswith(".py")

    @property
    def file(self) -> str:
        """Name of the file, as it is called in a run: `my_networks.py`."""
        name = re.split(r"[/\\]", self.source.partition("?")[0])[-1]
        return name if self.is_file else f"{name.rpartition('.')[2]}.py"

    @property
    def recorded(self) -> str:
        """The setting as a run records it, without the folder of the file: `my_networks.py:build`."""
        return f"{self.file}:{self.function}"


def parse_function(model: str) -> FunctionName | None:
    """Return the function that the setting `train.model` names, None if it is the name of one of our models."""
    if model in MODELS or not (match := _FUNCTION.fullmatch(model)):
        return None
    return FunctionName(**match.groupdict())


def _known(model: str) -> str:
    if model not in MODELS and not parse_function(model):
        *names, last = map(repr, MODELS)
        raise ValueError(
            f"input should be {', '.join(names)} or {last}, or a function of yours that builds a model: "
            "FILE.py:FUNCTION or MODULE:FUNCTION"
        )
    return model


ModelName = Annotated[str, AfterValidator(_known)]


def describe_models() -> str:
    """Return all names with their descriptions, in one line."""
    own = "FILE.py:FUNCTION or MODULE:FUNCTION (a function of yours, see docs/models.md)"
    return "; ".join([*(f"{name} ({spec.description})" for name, spec in MODELS.items()), own])
