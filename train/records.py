"""Types of run.json, history.json and model.json.

The keys of each file are the names of the fields, in their order; `train.run` names the files and reads them.
"""

from typing import Annotated, Any

from pydantic import Field, field_validator

from train.provenance import Device, Start
from train.record_base import Classes, Count, Digest, Epoch, Figure, NotNegative, Record
from train.setting_rules import with_present_names


class TrainFigures(Record):
    """Loss in nats and accuracy of segments in one epoch."""

    loss: Figure
    accuracy: Figure


class HeldOutFigures(TrainFigures):
    """Figures of a held-out fold after an epoch: those of segments, then accuracy and macro-F1 of tracks."""

    track_accuracy: Figure
    track_macro_f1: Figure


class EpochRecord(Record):
    """An entry of history.json: one finished epoch.

    Attributes:
        epoch: Number of the epoch; the first is 1.
        train: Figures over the steps of the epoch, with dropout and augmentation.
        learning_rate: Learning rate after the last step.
        seconds: Duration of the steps.
        examples_per_second: Segments trained on per second.
        wait_fraction: Share of the duration spent waiting for batches.
        validation: Figures of the validation fold; None without one, or if the epoch was not evaluated.
        test: Figures of the test fold; None unless `train.best_epoch_on_test` is set. Earlier versions evaluated
            it after each epoch.
    """

    epoch: Epoch
    train: TrainFigures
    learning_rate: NotNegative
    seconds: NotNegative
    examples_per_second: NotNegative
    wait_fraction: NotNegative
    validation: HeldOutFigures | None = None
    test: HeldOutFigures | None = None

    @property
    def held_out(self) -> dict[str, HeldOutFigures]:
        """Figures of `validation` and of `test`, of those that were evaluated."""
        parts = {"validation": self.validation, "test": self.test}
        return {part: figures for part, figures in parts.items() if figures}

    @property
    def parts(self) -> dict[str, TrainFigures]:
        """Figures of `train`, and of the held-out parts that were evaluated."""
        return {"train": self.train, **self.held_out}


class ModelInfo(Record):
    """model.json: the classes, features and tensors of model.keras, for prediction from audio.

    Attributes:
        classes: Class names, in the order of the logits.
        features: Feature settings of the dataset.
        input: Shape, dtype and meaning of the model's input.
        output: Shape, dtype and meaning of the model's output.
        parameters: Number of parameters; None if an earlier version did not record it.
        epoch: Epoch after which the model was saved.
        epochs: Number of epochs trained; for an ensemble, of the member that was trained longest.
        dataset: Identifier of the dataset.
        temperature: Number by which the weights of the last layer were divided (`train.calibrate`); None if they
            were not.
        members: Number of models of which it is the mean (`train.ensemble`), of whose epochs `epoch` is the last;
            None for a single one.
    """

    classes: Classes
    features: dict[str, Any]
    input: str
    output: str
    parameters: Count | None = None
    epoch: Epoch
    epochs: Epoch
    dataset: str
    temperature: Annotated[float, Field(gt=0)] | None = None
    members: Annotated[int, Field(ge=2, le=100)] | None = None

    @field_validator("classes")
    @classmethod
    def _are_distinct(cls, classes: list[str]) -> list[str]:
        if len(set(classes)) < len(classes):
            raise ValueError("two classes have the same name")
        return classes


class ModelCodeInfo(Record):
    """The code of a user's model, of which a run has a copy.

    Attributes:
        file: Name of the file in the folder `model_code` of the run.
        function: Name of the function that builds the model.
        sha256: SHA-256 of the file, in hexadecimal.
    """

    file: Annotated[str, Field(pattern=r"^[^/\\\x00-\x1f\x7f]{1,250}\.py$")]
    function: Annotated[str, Field(pattern=r"^[^\W\d]\w*$", max_length=200)]
    sha256: Digest


class InitialWeights(Record):
    """Where a run took its first weights from (`earmark train --from`).

    Attributes:
        run: Folder of the other run.
        sha256: SHA-256 of its model, a copy of which is `initial.keras`, in hexadecimal.
        classes: Its classes.
        taken: Names of the layers whose weights were taken; empty until training has begun.
        not_taken: Name and reason of the other layers that have weights.
    """

    run: str
    sha256: Digest
    classes: Classes
    taken: list[str] = Field(default_factory=list)
    not_taken: dict[str, str] = Field(default_factory=dict)


class RunInfo(Record):
    """run.json: the dataset and the settings with which a run was started.

    Attributes:
        dataset: Identifier of the dataset.
        features: Folder of the dataset, relative to the run if it is inside.
        train: The `train` section of the config; another version may have written other settings.
        order: Version of the order in which segments are read, `train.run.ORDER`; runs of the first have no key.
        model_code: Code of the model, if it is a user's.
        initial: Where the first weights are from, if they are those of another run.
        started: First start of the training; None in runs of earlier versions.
        resumed: Later starts, each with its versions and what differs from the first.
    """

    dataset: str
    features: str
    train: dict[str, Any]
    order: Count = 1
    model_code: ModelCodeInfo | None = None
    initial: InitialWeights | None = None
    started: Start | None = None
    resumed: list[Start] = Field(default_factory=list)

    @field_validator("train")
    @classmethod
    def _check_settings(cls, train: dict[str, Any]) -> dict[str, Any]:
        train = with_present_names(train)
        epochs = train.get("epochs")
        if not isinstance(epochs, int):
            raise ValueError("epochs should be a number")
        if not 1 <= epochs <= 1_000_000:
            raise ValueError("epochs should be from 1 to 1,000,000")
        return train

    @field_validator("features")
    @classmethod
    def _is_path(cls, features: str) -> str:
        if not features or "\0" in features:
            raise ValueError("expected a path or a URI")
        return features

    @property
    def epochs(self) -> int:
        """Number of epochs to train."""
        return int(self.train["epochs"])

    def with_start(self, start: Start | None, previous: "RunInfo | None") -> "RunInfo":
        """Return this record with the starts of the previous record of the run, and one more.

        Args:
            start: The start; None if nothing remains to be trained.
            previous: Content of run.json before; None if this is a new run.
        """
        first, resumed = (previous.started, previous.resumed) if previous else (None, [])
        if start and previous:
            resumed = [*resumed, start.without_repeated(first)]
        elif start:
            first = start
        starts = {"started": first, "resumed": resumed}
        return self.model_copy(update={name: value for name, value in starts.items() if value})

    def with_device(self, device: Device) -> "RunInfo":
        """Return this record with the devices of the latest start, instead of those recorded before.

        A start of elastic workers has others after each change of their number. A resumption repeats no devices
        equal to those of the first start.
        """
        if self.resumed:
            *before, last = self.resumed
            if self.started and self.started.device == device:
                last = last.without_device()
            else:
                last = last.model_copy(update={"device": device})
            return self.model_copy(update={"resumed": [*before, last]})
        if self.started:
            return self.model_copy(update={"started": self.started.model_copy(update={"device": device})})
        return self
