"""The folder of one training run, and the settings that it was begun with."""

import json
import os
from typing import Any

from featurize.dataset.dataset import Dataset
from featurize.storage import StoragePath
from train.config import TrainConfig, TrainError


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
        previous = self.read("run.json")
        if previous:
            before = previous["train"]
            changes = [
                f"train.{key}: {before.get(key)!r} there, {value!r} now"
                for key, value in settings.items()
                if key not in may_change and before.get(key) != value
            ]
            if previous["dataset"] != dataset.id:
                changes.append(f"dataset: {previous['dataset']} there, {dataset.id} now")
            if changes:
                raise TrainError(
                    f"{self.folder} holds a run made with other settings:\n"
                    + "\n".join(f"  - {change}" for change in changes)
                    + "\nGive another --out, or the same settings to go on with it."
                )
        self.write(
            "run.json", {"dataset": dataset.id, "features": self._relative(dataset.folder), "train": settings}
        )

    def features(self) -> StoragePath:
        """Return the folder of the dataset that the run was trained on."""
        return self.folder / str(self._begun()["features"])

    def config(self) -> TrainConfig:
        """Return the settings that the run was trained with."""
        return TrainConfig.model_validate(self._begun()["train"])

    def trained(self) -> dict[str, Any]:
        """Return what `model.json` says of the model: `classes`, `features` (settings), `epoch`, `dataset`.

        Raises:
            TrainError: the run has no model yet.
        """
        about: dict[str, Any] | None = self.read("model.json")
        if not (about and self.model.is_file()):
            raise TrainError(
                f"{self.folder} holds no trained model. Go on with its training: earmark train {self.features()} "
                f"--out {self.folder}"
            )
        return about

    def history(self) -> list[dict[str, Any]]:
        """Return the figures of each finished epoch."""
        return self.read("history.json") or []

    def latest_step(self) -> int:
        """Return the step that the latest whole checkpoint was written after, 0 where there is none."""
        names = (name.split("/") for name, _ in self.checkpoints.files())
        return max((int(parts[0].split("-")[1]) for parts in names if parts[1:] == ["progress.json"]), default=0)

    def read(self, name: str) -> Any:
        """Return the content of a JSON file of the run, None where it is not there."""
        try:
            return json.loads((self.folder / name).read())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            raise TrainError(f"{self.folder / name} is not JSON: {error}. Train into another folder.") from error

    def write(self, name: str, content: Any) -> None:
        """Write a JSON file of the run, whole or not at all."""
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (self.folder / name).write(text.encode())

    def _begun(self) -> Any:
        begun = self.read("run.json")
        if not begun:
            raise TrainError(f"{self.folder} holds no run: run.json is missing. Train first: earmark train")
        return begun

    def _relative(self, features: StoragePath) -> str:
        """Name the features relative to the run where they lie inside it, so that both can move together."""
        if features.local and self.folder.local:
            path, folder = features.local.resolve(), self.folder.local.resolve()
            return str(path.relative_to(folder) if path.is_relative_to(folder) else path)
        inside = features.scheme == self.folder.scheme and features.path.startswith(f"{self.folder.path}/")
        return features.path.removeprefix(f"{self.folder.path}/") if inside else str(features)
