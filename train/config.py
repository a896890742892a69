"""The `train` section of the config: the network, how it learns, and which folds it may see."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from featurize.dataset import FOLDS

Fold = Annotated[int, Field(strict=True, ge=0, lt=FOLDS)]
PositiveInt = Annotated[int, Field(strict=True, ge=1)]


class TrainError(Exception):
    """Training cannot start or go on; the message says what was found and what to type next."""


class TrainConfig(BaseModel):
    """How a model is trained and judged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Literal["conv2", "conv3", "conv3-norm"] = Field(
        "conv3-norm", description="the network: conv2, conv3 or conv3-norm (the published one)"
    )
    epochs: PositiveInt = Field(40, description="passes over the training folds")
    batch_size: PositiveInt = Field(64, description="segments in one step, over all replicas together")
    learning_rate: float = Field(1e-4, gt=0, le=1, description="of the Adam optimizer")
    dropout: float = Field(0.4, ge=0, lt=1, description="share of activations dropped before the logits")
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: each class weighs the same in the loss, however few its tracks"
    )
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**31)] = Field(
        0, description="of the initial weights, the order of the segments and the dropout masks"
    )
    replicas: PositiveInt | None = Field(
        None, description="null: all GPUs, or one CPU; a number: so many of the GPUs, or logical CPUs"
    )
    test_fold: Fold = Field(0, description="the fold that the model is judged on and never learns from")
    validation_fold: Fold | Literal["next", "none"] = Field(
        "none",
        description="the fold that picks the best epoch: a number, or next (the one after the test fold); none "
        "learns from it, too, and keeps the last epoch, which small collections are better off with",
    )
    test_segments: Literal["all", "first_last"] = Field(
        "all", description="which segments of a held-out track are judged: all, or first_last"
    )
    checkpoint_every: PositiveInt = Field(1, description="epochs between checkpoints; the last has one anyway")
    keep_checkpoints: PositiveInt = Field(3, description="how many of the latest checkpoints are kept")
    shuffle_window: PositiveInt = Field(
        4096, description="segments held in memory and shuffled together (35 kB each; up to three windows)"
    )

    @model_validator(mode="after")
    def _folds_apart(self) -> "TrainConfig":
        if self.validation_fold == self.test_fold:
            raise ValueError(
                f"validation_fold and test_fold are both {self.test_fold}; the fold that picks the model must "
                "not be the one that judges it"
            )
        if self.replicas is not None and self.replicas > self.batch_size:
            raise ValueError(f"{self.replicas} replicas cannot share batches of {self.batch_size} segments")
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
