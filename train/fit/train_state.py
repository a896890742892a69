"""What training needs to resume besides tensors: `progress.json` of a checkpoint."""

import dataclasses
import json

from featurize.dataset.json_text import parse_json
from train.records import EpochRecord

_LARGEST = 1e18  # of any number in progress.json
_STORED_AS_CORRECT = "right"  # the key of progress.json; renaming it would make older checkpoints unreadable


@dataclasses.dataclass
class TrainState:
    """State of training besides the weights and the optimizer's slots; the content of progress.json.

    Attributes:
        step: Number of finished steps.
        history: Record of each finished epoch.
        loss_sum: Sum of the losses of the steps of the unfinished epoch.
        correct: Number of correctly classified rows in the unfinished epoch.
        seconds: Seconds spent in the unfinished epoch.
        waited: Seconds of these spent waiting for batches.
    """

    step: int = 0
    history: list[EpochRecord] = dataclasses.field(default_factory=list)
    loss_sum: float = 0.0
    correct: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def to_json(self) -> bytes:
        """Return the content of progress.json."""
        content = dataclasses.asdict(self)
        content["history"] = [entry.to_json() for entry in self.history]
        content[_STORED_AS_CORRECT] = content.pop("correct")
        return json.dumps(content).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "TrainState":
        """Read progress.json.

        Raises:
            TypeError, ValueError: The text was not returned by `to_json`.
        """
        content = parse_json(text)
        if not (isinstance(content, dict) and isinstance(content.get("step"), int)):
            raise TypeError("expected an object with a step")
        numbers = {key: value for key, value in content.items() if key != "history"}
        if not all(isinstance(value, int | float) and 0 <= value < _LARGEST for value in numbers.values()):
            raise ValueError("expected numbers of at least 0")
        content["history"] = [EpochRecord.model_validate(entry) for entry in content.get("history", [])]
        return cls(**{"correct" if key == _STORED_AS_CORRECT else key: value for key, value in content.items()})
