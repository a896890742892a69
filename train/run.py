"""The folder of one training run, and the settings that it was begun with."""

import json
import os
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from featurize.dataset.dataset import Dataset
from featurize.storage import StoragePath
from train.checkpoint_name import whole_checkpoints
from train.config import TrainConfig
from train.errors import TrainError
from train.records import CrossValidationSummary, EpochRecord, Metrics, ModelInfo, RunInfo, explain

T = TypeVar("T")

_TRAIN_AGAIN = "Train into another folder."


class Run:
    """The files of one run.

    config.yaml and run.json say what it was made from; checkpoints/, tensorboard/ and history.json grow with
    the epochs; model.keras and model.json are the result; metrics.json and report.html judge it.
    """

    def __init__(self, folder: str | os.PathLike[str] | StoragePath) -> None:
        """Name the folder, a path or a URI; nothing is created yet."""
        self.folder = StoragePath.of(folder)
        self.checkpoints = self.folder / "checkpoints"
        self.tensorboard = self.folder / "tensorboard"
        self.model = self.folder / "model.keras"
        self.report = self.folder / "report.html"

    def begin(self, dataset: Dataset, config: TrainConfig) -> None:
        """Record what the run is made from, or check that an earlier beginning was made from the same.

        Raises:
            TrainError: the folder holds a run of other settings or of another dataset.
        """
        settings = config.model_dump()
        may_change = config.may_change
        previous = self.info()
        if previous:
            before = previous.train
            changes = [
                f"train.{key}: {before.get(key)!r} there, {value!r} now"
                for key, value in settings.items()
                if key not in may_change and before.get(key) != value
            ]
            if previous.dataset != dataset.id:
                changes.append(f"dataset: {previous.dataset} there, {dataset.id} now")
            if changes:
                raise TrainError(
                    f"{self.folder} holds a run made with other settings:\n"
                    + "\n".join(f"  - {change}" for change in changes)
                    + "\nGive another --out, or the same settings to go on with it."
                )
        info = RunInfo(dataset=dataset.id, features=self._relative(dataset.folder), train=settings)
        self.write("run.json", info.to_json())

    def features(self) -> StoragePath:
        """Return the folder of the dataset that the run was trained on."""
        return self.folder / self._begun().features

    def config(self) -> TrainConfig:
        """Return the settings that the run was trained with."""
        settings = self._begun().train
        try:
            return TrainConfig.model_validate(settings)
        except ValidationError as error:
            raise self._unexpected("run.json", f"train.{explain(error)}", _TRAIN_AGAIN) from error

    def trained(self) -> ModelInfo:
        """Return the content of `model.json`.

        Raises:
            TrainError: the run has no model yet, or model.json is broken.
        """
        info = self.model_info()
        if not (info and self.model.is_file()):
            raise TrainError(
                f"{self.folder} holds no trained model. Go on with its training: earmark train {self.features()} "
                f"--out {self.folder}"
            )
        return info

    def info(self) -> RunInfo | None:
        """Return the content of run.json, None if the run was never begun."""
        return self._load("run.json", RunInfo, _TRAIN_AGAIN)

    def model_info(self) -> ModelInfo | None:
        """Return the content of model.json, None if training has not ended."""
        advice = "Remove it, and the same earmark train makes it again from the latest checkpoint."
        return self._load("model.json", ModelInfo, advice)

    def history(self) -> list[EpochRecord]:
        """Return the record of each finished epoch."""
        return self._load("history.json", list[EpochRecord], _TRAIN_AGAIN) or []

    def metrics(self) -> Metrics | None:
        """Return the content of metrics.json, None if the run is not evaluated."""
        return self._load("metrics.json", Metrics, f"Type: earmark evaluate {self.folder}")

    def cross_validation(self) -> CrossValidationSummary | None:
        """Return the content of crossval.json, None if the folder holds no finished cross-validation."""
        advice = "Type the same earmark crossval again; finished folds are kept."
        return self._load("crossval.json", CrossValidationSummary, advice)

    def latest_step(self) -> int:
        """Return the step that the latest whole checkpoint was written after, 0 where there is none."""
        return max((name.step for name in whole_checkpoints(self.checkpoints)), default=0)

    def read(self, name: str) -> Any:
        """Return the content of a JSON file of the run as it is, None if the file does not exist.

        Raises:
            TrainError: it is not JSON.
        """
        return self._load(name, object, _TRAIN_AGAIN)

    def write(self, name: str, content: Any) -> None:
        """Write a JSON file of the run, whole or not at all."""
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (self.folder / name).write(text.encode())

    def _load(self, name: str, kind: type[T], advice: str) -> T | None:
        """Return the content of a JSON file as a record, None if the file does not exist.

        Args:
            name: File name.
            kind: Type of the content.
            advice: What to do if the file does not hold that type, for the error.

        Raises:
            TrainError: the file does not hold that type.
        """
        try:
            text = (self.folder / name).read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return TypeAdapter(kind).validate_python(json.loads(text))
        except ValidationError as error:
            raise self._unexpected(name, explain(error), advice) from error
        except ValueError as error:
            raise TrainError(f"{self.folder / name} is not JSON: {error}. {advice}") from error

    def _unexpected(self, name: str, problem: str, advice: str) -> TrainError:
        return TrainError(f"{self.folder / name} is not as Earmark writes it: {problem}. {advice}")

    def _begun(self) -> RunInfo:
        info = self.info()
        if not info:
            raise TrainError(f"{self.folder} holds no run: run.json is missing. Train first: earmark train")
        return info

    def _relative(self, features: StoragePath) -> str:
        """Name the features relative to the run where they lie inside it, so that both can move together."""
        if features.local and self.folder.local:
            path, folder = features.local.resolve(), self.folder.local.resolve()
            return str(path.relative_to(folder) if path.is_relative_to(folder) else path)
        inside = features.scheme == self.folder.scheme and features.path.startswith(f"{self.folder.path}/")
        return features.path.removeprefix(f"{self.folder.path}/") if inside else str(features)
