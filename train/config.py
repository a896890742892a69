"""The `train` section of the config: the network, how it learns, and which folds it may see."""

import dataclasses
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from featurize.dataset.schema import FOLDS
from train.model_names import ModelName, describe_models

Fold = Annotated[int, Field(strict=True, ge=0, lt=FOLDS)]
PositiveInt = Annotated[int, Field(strict=True, ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


@dataclasses.dataclass(frozen=True)
class MayChange:
    """Marks a setting that may change when a run continues; any other would change the finished part of it.

    Attributes:
        unless: Name and value of a setting with which this one may not change either; None if there is none.
    """

    unless: tuple[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class NotCompared:
    """Marks a setting that `earmark compare` does not show, because it affects no score."""


class TrainConfig(BaseModel):
    """How a model is trained and judged."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    model: ModelName = Field("conv3-norm", description=f"the network: {describe_models()}")
    normalise: bool = Field(
        False,
        description="the model takes each coefficient's mean off and divides by its deviation, both those of the "
        "training folds and kept in the model",
    )
    dropout: Share = Field(0.4, description="share of activations dropped before the logits")

    # The cosine ends at the last epoch, so changing `epochs` changes the whole learning-rate schedule.
    epochs: Annotated[PositiveInt, MayChange(unless=("schedule", "cosine"))] = Field(
        40, description="passes over the training folds"
    )
    batch_size: PositiveInt = Field(64, description="segments in one step, over all replicas together")
    learning_rate: float = Field(1e-4, gt=0, le=1, description="of the Adam optimizer; the highest of a schedule")
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="cosine: the learning rate falls to nothing at the last epoch, on half a cosine"
    )
    warmup_epochs: float = Field(0, ge=0, description="epochs in which the learning rate first rises from nothing")
    weight_decay: float = Field(
        0, ge=0, lt=1, description="share of each weight, times the learning rate, taken off in a step (AdamW)"
    )
    label_smoothing: Share = Field(0, description="share of the target that is spread evenly over all classes")
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: each class weighs the same in the loss, however few its tracks"
    )
    sampling: Literal["natural", "balanced"] = Field(
        "natural", description="balanced: tracks of smaller classes come again until each class is heard as often"
    )

    segments_per_epoch: PositiveInt | None = Field(
        None,
        description="how many segments of each track an epoch hears, others each time: a random shift in time; "
        "null: all",
    )
    mask_frames: Annotated[int, Field(strict=True, ge=0, lt=217)] = Field(
        0, description="frames that a mask over time hides at most, in two masks a segment (SpecAugment)"
    )
    mask_coefficients: Annotated[int, Field(strict=True, ge=0, lt=40)] = Field(
        0, description="neighbouring coefficients that a mask hides at most, in two masks a segment (SpecAugment)"
    )
    mixup: float = Field(
        0,
        ge=0,
        le=10,
        description="alpha of the Beta distribution by which segments are mixed; 0: they are not",
    )

    seed: Annotated[int, Field(strict=True, ge=0, lt=2**31)] = Field(
        0, description="of the initial weights, the order of the segments, the dropout masks and the augmentation"
    )
    test_fold: Fold = Field(0, description="the fold that the model is judged on and never learns from")
    validation_fold: Fold | Literal["next", "none"] = Field(
        "none",
        description="the fold that picks the best epoch: a number, or next (the one after the test fold); none "
        "learns from it, too, and keeps the last epoch, which small collections are better off with",
    )
    select_by: Literal["track_macro_f1", "track_accuracy", "accuracy", "loss"] = Field(
        "track_macro_f1", description="the figure of the validation fold that picks the best epoch"
    )
    patience: Annotated[PositiveInt | None, MayChange()] = Field(
        None, description="training ends early after so many epochs without a better select_by; null: it does not"
    )
    test_segments: Literal["all", "first_last"] = Field(
        "all", description="which segments of a held-out track are judged: all, or first_last"
    )

    checkpoint_every: Annotated[str, MayChange(), NotCompared()] = Field(
        "1 minute",
        pattern=r"^[1-9]\d* (minute|step|epoch)s?$",
        description="how often a checkpoint is written: 10 minutes, 500 steps, 1 epoch; also at the end and "
        "when stopped",
    )
    keep_checkpoints: Annotated[PositiveInt, MayChange(), NotCompared()] = Field(
        3, description="how many of the latest checkpoints are kept"
    )
    shuffle_window: PositiveInt = Field(
        4096, description="segments held in memory and shuffled together (35 kB each; up to three windows)"
    )

    device: Annotated[Literal["auto", "cpu", "gpu"], MayChange(), NotCompared()] = Field(
        "auto", description="auto: the GPUs, on one machine without any the CPU; on a cluster cpu must be said"
    )
    replicas: Annotated[PositiveInt | None, MayChange()] = Field(
        None, description="null: all GPUs of a worker, or one CPU; a number: so many of them, or logical CPUs"
    )
    workers: Annotated[PositiveInt, MayChange(), NotCompared()] = Field(
        1, description="processes that train together, each on a node of its own where there are enough nodes"
    )
    gpus_per_worker: Annotated[PositiveInt, MayChange(), NotCompared()] = Field(
        1, description="GPUs that each worker takes of its node, on a cluster"
    )
    wait_minutes: Annotated[float, MayChange(), NotCompared()] = Field(
        20, ge=0, description="how long training waits for nodes that a cluster does not have yet"
    )
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = Field(
        "float32", description="what the layers compute in; the weights are float32 in any case"
    )
    jit_compile: Literal["auto", "always", "never"] = Field(
        "auto", description="compile each step by XLA; auto: on GPUs only, since it is slower on CPUs"
    )
    all_reduce: Annotated[Literal["auto", "nccl", "hierarchical"], MayChange()] = Field(
        "auto", description="how several GPUs add up their gradients; auto: TensorFlow's choice, NCCL where it is"
    )

    @model_validator(mode="after")
    def _folds_apart(self) -> "TrainConfig":
        if self.validation_fold == self.test_fold:
            raise ValueError(
                f"validation_fold and test_fold are both {self.test_fold}; the fold that picks the model must "
                "not be the one that judges it"
            )
        return self

    @model_validator(mode="after")
    def _settings_that_need_others(self) -> "TrainConfig":
        if self.replicas is not None and self.replicas > self.batch_size:
            raise ValueError(f"{self.replicas} replicas cannot share batches of {self.batch_size} segments")
        if self.workers > 1 and self.replicas is not None:
            raise ValueError(
                f"replicas = {self.replicas} is for one worker; each of the {self.workers} workers has as many as "
                "gpus_per_worker says, or one CPU"
            )
        if self.workers > 1 and self.all_reduce == "hierarchical":
            raise ValueError("all_reduce = hierarchical is for one worker; several have auto or nccl")
        if self.patience is not None and self.validation_fold == "none":
            raise ValueError(
                f"patience = {self.patience} needs a validation_fold to watch: next, or a number. The test fold "
                "must not say when to stop"
            )
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs = {self.warmup_epochs:g} leaves none of the {self.epochs} epochs")
        return self

    @property
    def held_out(self) -> dict[str, int]:
        """The folds that training does not learn from: `test`, and `validation` where there is one."""
        if self.validation_fold == "none":
            return {"test": self.test_fold}
        following = (self.test_fold + 1) % FOLDS
        validation = following if self.validation_fold == "next" else self.validation_fold
        return {"validation": validation, "test": self.test_fold}

    @property
    def training_folds(self) -> set[int]:
        """The folds that training learns from."""
        return set(range(FOLDS)) - set(self.held_out.values())

    @property
    def may_change(self) -> set[str]:
        """Names of the settings that may change when a run of these settings continues."""
        return {
            name
            for name, field in type(self).model_fields.items()
            for mark in field.metadata
            if isinstance(mark, MayChange)
            and not (mark.unless and getattr(self, mark.unless[0]) == mark.unless[1])
        }

    @property
    def compared(self) -> dict[str, Any]:
        """The settings that `earmark compare` shows where they differ, by their names."""
        fields = type(self).model_fields
        return {
            name: value
            for name, value in self.model_dump().items()
            if not any(isinstance(mark, NotCompared) for mark in fields[name].metadata)
        }

    @property
    def checkpoint_interval(self) -> "Interval":
        """What `checkpoint_every` says."""
        count, unit = self.checkpoint_every.split()
        return Interval(**{unit.removesuffix("s") + "s": int(count)})


@dataclasses.dataclass(frozen=True)
class Interval:
    """A stretch of training; one of the three is given."""

    minutes: int | None = None
    steps: int | None = None
    epochs: int | None = None

    def is_due(self, seconds: float, steps: int, epoch_ended: bool, epochs: int) -> bool:
        """Say whether something is due.

        Args:
            seconds: since it was done last.
            steps: done since the beginning of training.
            epoch_ended: whether the latest step was the last of its epoch.
            epochs: finished since the beginning of training.
        """
        if self.minutes is not None:
            return seconds >= 60 * self.minutes
        if self.steps is not None:
            return steps % self.steps == 0
        return epoch_ended and epochs % (self.epochs or 1) == 0
