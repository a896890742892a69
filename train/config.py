"""The `train` section of the config: network, training, folds and hardware."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from train.interval import Interval
from train.model_names import MODELS, ModelName, describe_models
from train.setting_rules import refuse_combinations, refuse_elastic_workers, with_present_names
from train.setting_types import (
    BatchSize,
    CacheFolder,
    Epochs,
    Fold,
    LayerName,
    MaskWidth,
    MayChange,
    ModelSettings,
    NotCompared,
    Processes,
    Share,
    SmallCount,
    WindowSize,
    Workers,
)
from train.worker_range import WorkerRange


class TrainConfig(BaseModel):
    """Settings of training and evaluation."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    model: ModelName = Field("conv3-norm", description=f"network: {describe_models()}")
    model_settings: ModelSettings = Field(
        {}, description="settings of a model of yours, which its function reads as config.model_settings"
    )
    freeze: list[LayerName] = Field(
        [],
        description="names of layers that keep the weights taken from the run of --from; batch normalization also "
        "keeps its statistics",
    )
    normalize: bool = Field(
        False,
        description="normalize each coefficient or mel band in the first layer of the model, by its mean and "
        "standard deviation in the training folds",
    )
    dropout: Share = Field(0.4, description="fraction of activations dropped before the logits in training")

    epochs: Annotated[Epochs, MayChange(unless=("schedule", "cosine"))] = Field(
        40,
        description="passes over the training folds; with schedule cosine, changing it changes the whole "
        "learning-rate schedule",
    )
    batch_size: BatchSize = Field(64, description="segments in one training step, over all replicas together")
    learning_rate: float = Field(
        1e-4,
        gt=0,
        le=1,
        description="learning rate of the Adam optimizer; the maximum if it has a schedule or a warmup",
    )
    schedule: Literal["constant", "cosine"] = Field(
        "constant",
        description="learning-rate schedule: constant, or cosine decay to zero at the end of the last epoch",
    )
    warmup_epochs: float = Field(
        0, ge=0, le=1_000_000, description="epochs in which the learning rate first rises linearly from zero"
    )
    weight_decay: float = Field(
        0,
        ge=0,
        lt=1,
        description="fraction of each weight, times the learning rate, that a step subtracts (AdamW)",
    )
    average_epochs: float = Field(
        0,
        ge=0,
        le=1_000_000,
        description="evaluate and save an exponential moving average of the weights, which remembers about this "
        "many epochs, instead of the weights of the last step; 0: no average",
    )
    label_smoothing: Share = Field(
        0, description="fraction of the target probability that is spread evenly over all classes"
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: every class has the same total weight in the loss"
    )
    sampling: Literal["natural", "balanced"] = Field(
        "natural",
        description="balanced: tracks of smaller classes are repeated until every class is as frequent as the "
        "largest",
    )

    segments_per_epoch: SmallCount | None = Field(
        None,
        description="segments drawn at random from each track in each epoch, an augmentation by shifts in "
        "time; null: all",
    )
    mask_frames: MaskWidth = Field(
        0,
        description="maximum width in frames of a mask over time (SpecAugment, two masks per segment), less than "
        "the frames of a segment; 0: no masks",
    )
    mask_coefficients: MaskWidth = Field(
        0,
        description="maximum width of a mask over coefficients or mel bands (SpecAugment, two masks per segment), "
        "less than their number; 0: no masks",
    )
    mixup: float = Field(
        0,
        ge=0,
        le=10,
        description="alpha of the Beta distribution of mixup weights; 0: no mixup",
    )

    seed: Annotated[int, Field(strict=True, ge=0, lt=2**31)] = Field(
        0, description="random seed of the initial weights, the order of the segments, dropout and augmentation"
    )
    ensemble: Annotated[int, Field(strict=True, ge=1, le=100)] = Field(
        1,
        description="number of models with different seeds, trained one after another and saved as one, whose "
        "probabilities are the mean of theirs",
    )
    test_fold: Fold | Literal["auto", "split"] = Field(
        "auto",
        description="fold that the model is evaluated on and never trained on: a number, or split (the official "
        "test split of the collection); auto: split if there is one, else 0",
    )
    validation_fold: Fold | Literal["auto", "split", "next", "none"] = Field(
        "auto",
        description="fold that selects the best epoch: a number, next (the one after the test fold), or split "
        "(the official validation split); none: keep the last epoch, and train on one fold more, which is better "
        "for small collections; auto: split if there is one, else none",
    )
    select_by: Literal["track_macro_f1", "track_accuracy", "accuracy", "loss"] = Field(
        "track_macro_f1", description="metric of the validation fold that selects the best epoch"
    )
    patience: Annotated[Epochs | None, MayChange()] = Field(
        None, description="stop after this many epochs without an improvement of select_by; null: train all epochs"
    )
    calibrate: bool = Field(
        False,
        description="divide the logits of the trained model by the temperature that fits the validation fold "
        "best, so that the confidence of a prediction is about its accuracy",
    )
    test_segments: Literal["all", "first_last"] = Field(
        "all", description="segments of each held-out track to evaluate: all, or first_last"
    )

    evaluate_every: Annotated[Epochs, MayChange()] = Field(
        1,
        description="epochs between two evaluations on the validation fold; the last epoch is always evaluated. "
        "The test fold is evaluated once, after training",
    )
    best_epoch_on_test: Annotated[bool, MayChange(), NotCompared()] = Field(
        False,
        description="evaluate the test fold, too, each time, and let earmark compare show the best of these "
        "accuracies, as published experiments report it: an overestimate, for comparison with them only. It "
        "selects no epoch",
    )

    checkpoint_every: Annotated[str, MayChange(), NotCompared()] = Field(
        "1 minute",
        pattern=r"^[1-9]\d{0,5} (minute|step|epoch)s?$",
        description="interval between checkpoints, such as 10 minutes, 500 steps or 1 epoch; one is also "
        "written at the end and when training is stopped",
    )
    keep_checkpoints: Annotated[SmallCount, MayChange(), NotCompared()] = Field(
        3, description="number of latest checkpoints to keep"
    )
    steps_per_call: Annotated[SmallCount | Literal["auto"], MayChange(), NotCompared()] = Field(
        "auto",
        description="most training steps in one call of TensorFlow, which saves time between steps; fewer where "
        "they would take more than half a second; auto: 50",
    )
    profile_steps: Annotated[str | None, MayChange(), NotCompared()] = Field(
        None,
        pattern=r"^[1-9]\d{0,9}\.\.[1-9]\d{0,9}$",
        description="training steps of which TensorBoard gets a profile, such as 100..110, counted from 1; null: "
        "none",
    )
    shuffle_window: WindowSize = Field(
        32768,
        description="segments in memory, among which those of a batch are drawn (35 kB each with the default "
        "features, 1.1 GB in all; while windows are replaced, up to a quarter more, and twice as much for small "
        "collections)",
    )

    cache: Annotated[CacheFolder | None, MayChange(), NotCompared()] = Field(
        None,
        description="folder on a disk of each machine where rows are kept when they are first read, so that later "
        "epochs do not read the bucket; null: none are kept",
    )
    cache_gigabytes: Annotated[float, MayChange(), NotCompared()] = Field(
        100, gt=0, le=1_000_000, description="most gigabytes in the folder `cache`, other datasets included"
    )

    device: Annotated[Literal["auto", "cpu", "gpu"], MayChange(), NotCompared()] = Field(
        "auto",
        description="auto: the GPUs, or the CPU of a single machine without GPUs; on a cluster, set cpu to "
        "train without GPUs",
    )
    replicas: Annotated[Processes | None, MayChange()] = Field(
        None, description="number of GPUs, or of logical CPUs without GPUs; null: all GPUs of a worker, or one CPU"
    )
    workers: Annotated[Workers, MayChange(), NotCompared()] = Field(
        1,
        description="processes that train together, each on a different node if there are enough nodes: a "
        "number, or a range such as 2..8, of which training uses as many as the cluster has room for",
    )
    gpus_per_worker: Annotated[SmallCount, MayChange(), NotCompared()] = Field(
        1, description="GPUs of each worker on a cluster"
    )
    wait_minutes: Annotated[float, MayChange(), NotCompared()] = Field(
        20, ge=0, le=10_080, description="minutes to wait for cluster nodes that are still starting"
    )
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16", "auto"] = Field(
        "float32",
        description="data type in which layers compute; weights are always float32. auto: mixed_bfloat16 on GPUs "
        "that compute in it, else float32",
    )
    jit_compile: Literal["auto", "always", "never"] = Field(
        "auto",
        description="compile the training step with XLA: faster on GPUs, slower on CPUs; auto: never, because a "
        "compiled training cannot be repeated bit for bit",
    )
    all_reduce: Annotated[Literal["auto", "nccl", "hierarchical"], MayChange()] = Field(
        "auto", description="algorithm that sums gradients over GPUs; auto: TensorFlow's choice, NCCL if available"
    )

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, values: Any) -> Any:
        return with_present_names(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _check_folds_differ(self) -> "TrainConfig":
        if isinstance(self.test_fold, int) and self.validation_fold == self.test_fold:
            raise ValueError(
                f"validation_fold and test_fold are both {self.test_fold}; the fold that selects the model "
                "must not be the one that evaluates it"
            )
        return self

    @model_validator(mode="after")
    def _check_rules(self) -> "TrainConfig":
        refuse_elastic_workers(self)
        refuse_combinations(self)
        return self

    @property
    def is_users_model(self) -> bool:
        """Whether a function of the user builds the model, whose code may therefore be executed."""
        return self.model not in MODELS

    @property
    def selects_epoch(self) -> bool:
        """Whether a validation fold selects the epoch; `auto` must have been resolved, see `train.folds`."""
        return self.validation_fold not in ("auto", "none")

    @property
    def profiled(self) -> tuple[int, int] | None:
        """The first and the last step of `profile_steps`; None for no profile."""
        if self.profile_steps is None:
            return None
        first, last = map(int, self.profile_steps.split(".."))
        return first, last

    @property
    def worker_range(self) -> WorkerRange:
        """How many workers may train together."""
        return WorkerRange.parse(self.workers, on_cpus=self.device == "cpu")

    @property
    def needs_workers(self) -> bool:
        """Whether Ray's workers train, also on a single machine."""
        return self.worker_range.needs_ray

    def is_evaluated_after(self, epoch: int) -> bool:
        """Return whether a model is evaluated after an epoch; the number of the first epoch is 1."""
        return epoch % self.evaluate_every == 0 or epoch == self.epochs

    @property
    def worker_resources(self) -> dict[str, float]:
        """The resources that one training worker takes of a node of a cluster."""
        return {"CPU": 1} if self.device == "cpu" else {"CPU": 1, "GPU": self.gpus_per_worker}

    @property
    def may_change(self) -> set[str]:
        """Names of the settings that may change when a run with these settings resumes."""
        return {
            name
            for name, field in type(self).model_fields.items()
            for mark in field.metadata
            if isinstance(mark, MayChange)
            and not (mark.unless and getattr(self, mark.unless[0]) == mark.unless[1])
        }

    @property
    def compared(self) -> dict[str, Any]:
        """The settings that `earmark compare` shows if they differ, by name."""
        fields = type(self).model_fields
        return {
            name: value
            for name, value in self.model_dump().items()
            if not any(isinstance(mark, NotCompared) for mark in fields[name].metadata)
        }

    @property
    def checkpoint_interval(self) -> Interval:
        """`checkpoint_every` as an `Interval`."""
        count, unit = self.checkpoint_every.split()
        return Interval(**{unit.removesuffix("s") + "s": int(count)})
