"""The folder of a training run: its files and the settings it was started with."""

import json
import os
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from featurize.dataset.dataset import Dataset
from featurize.dataset.feature_settings import FeatureSettings
from featurize.dataset.json_text import read_json
from featurize.dataset.output_folder import refuse_foreign_run_folder
from featurize.dataset.stored_model import describe_invalid
from featurize.dataset.yaml_text import LARGEST_YAML, parse_yaml
from featurize.display import one_line
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath, describe
from train.checkpoint_name import complete_checkpoints
from train.config import TrainConfig
from train.errors import TrainError
from train.provenance import Device, Start
from train.record_base import explain
from train.records import EpochRecord, InitialWeights, ModelCodeInfo, ModelInfo, RunInfo
from train.run_folders import MEMBERS, TO_ENSEMBLE, ensemble_of, relative_features, run_name, runs_inside
from train.score_records import Metrics
from train.summary_records import CrossValidationSummary, TuneSummary

T = TypeVar("T")

# Version of the order in which training reads segments; another order is another training. 1 had no lanes.
ORDER = 2

TRAIN_AGAIN = "Train into another folder."
_WRITE_CONFIG = "Repeat its run or train command: it writes the file and keeps the model."


class Run:
    """The files of one run.

    config.yaml and run.json record the settings and the dataset; checkpoints/, tensorboard/ and history.json are
    updated in each epoch; model.keras and model.json are the trained model; metrics.json and report.html are its
    evaluation.
    """

    def __init__(self, folder: str | os.PathLike[str] | StoragePath) -> None:
        """Describe the files in a folder, a path or a URI; nothing is created yet."""
        self.folder = StoragePath.of(folder)
        self.checkpoints = self.folder / "checkpoints"
        self.model = self.folder / "model.keras"
        self.report = self.folder / "report.html"

    @property
    def tensorboard(self) -> StoragePath:
        """Folder of the curves; of a member, that in the folder of its ensemble."""
        ensemble = ensemble_of(self.folder)
        return ensemble / "tensorboard" / f"member-{self.folder.name}" if ensemble else self.folder / "tensorboard"

    @property
    def name(self) -> str:
        """Name of its folder, with those around it for a fold, a seed, a trial, or a member of an ensemble."""
        return run_name(self.folder)

    def begin(
        self,
        dataset: Dataset,
        config: TrainConfig,
        model_code: ModelCodeInfo | None = None,
        initial: InitialWeights | None = None,
        start: Start | None = None,
    ) -> None:
        """Record the dataset and the settings; `train.run_checks` has the checks that come first.

        Args:
            dataset: Dataset.
            config: Settings.
            model_code: Code of the model, if it is a user's.
            initial: Where the first weights are from, if they are those of another run.
            start: How training is started now; None if that is not to be recorded.
        """
        previous = self.info()
        settings = config.model_dump()
        order = previous.order if previous and self.latest_step() else ORDER
        info = RunInfo(
            dataset=dataset.id,
            features=relative_features(self.folder, dataset.folder),
            train=settings,
            order=order,
        )
        # Only if there are any, so that the file of other runs stays as it was.
        if model_code:
            info = info.model_copy(update={"model_code": model_code})
        if initial:
            info = info.model_copy(update={"initial": initial})
        self.write("run.json", info.with_start(start, previous).to_json())

    def record_device(self, device: Device) -> None:
        """Record the devices that train, if the latest start is recorded."""
        if (info := self.info()) and (updated := info.with_device(device)) != info:
            self.write("run.json", updated.to_json())

    def features(self) -> StoragePath:
        """Return the folder of the dataset that the run was trained on.

        Raises:
            TrainError: The folder holds no run, or a member that was copied without the dataset of its ensemble.
            FeaturizeError: The recorded folder cannot be used.
        """
        recorded = self._existing_info().features
        if not recorded.startswith(TO_ENSEMBLE):
            return self.folder.resolve(recorded)
        if ensemble := ensemble_of(self.folder):
            return ensemble / recorded.removeprefix(TO_ENSEMBLE)
        raise TrainError(
            f"{self.folder / 'run.json'} names the dataset {one_line(recorded)}, a path from the folder of an "
            "ensemble, and no ensemble has this member. Name the dataset: --features FEATURES"
        )

    def config(self) -> TrainConfig:
        """Return the settings that the run was trained with."""
        settings = self._existing_info().train
        try:
            return TrainConfig.model_validate(settings)
        except ValidationError as error:
            raise self._invalid("run.json", f"train.{explain(error)}", TRAIN_AGAIN) from error

    def trained(self) -> ModelInfo:
        """Return the content of `model.json`.

        Raises:
            TrainError: The run has no model yet, or model.json is broken.
        """
        info = self.model_info()
        if not (info and self.model.is_file()):
            settings = self.folder / "config.yaml"
            raise TrainError(
                f"{self.folder} holds no trained model. Continue its training: earmark train "
                f"{self.features().quoted} --out {self.folder.quoted}"
                + (f" --config {settings.quoted}" if settings.local and settings.is_file() else "")
            )
        return info

    def info(self) -> RunInfo | None:
        """Return the content of run.json, None if the folder holds no run."""
        return self._load("run.json", RunInfo, TRAIN_AGAIN)

    def feature_settings(self) -> FeatureSettings:
        """Return the settings of the features that the model was trained on.

        Raises:
            TrainError: The run has no model, or `model.json` has settings that no dataset has.
        """
        try:
            return FeatureSettings.model_validate(self.trained().features)
        except ValidationError as error:
            raise TrainError(
                f"{self.folder / 'model.json'} has features that no dataset has: {describe_invalid(error)}. Train "
                "again into another folder."
            ) from error

    def model_info(self) -> ModelInfo | None:
        """Return the content of model.json, None if training is not finished."""
        advice = "Remove it and repeat its run or train command, which restores it from the latest checkpoint."
        return self._load("model.json", ModelInfo, advice)

    def history(self) -> list[EpochRecord]:
        """Return the record of each finished epoch."""
        history = self._load("history.json", list[EpochRecord], TRAIN_AGAIN) or []
        for number, entry in enumerate(history, 1):
            if entry.epoch != number:
                problem = f"entry {number} is not epoch {number} of one training"
                raise self._invalid("history.json", problem, TRAIN_AGAIN)
        return history

    def metrics(self) -> Metrics | None:
        """Return the content of metrics.json, None if the run is not evaluated."""
        return self._load("metrics.json", Metrics, f"Type: earmark evaluate {self.folder.quoted}")

    def cross_validation(self) -> CrossValidationSummary | None:
        """Return the content of crossval.json, None if the folder holds no finished cross-validation."""
        advice = "Type the same earmark crossval again; finished folds are kept."
        return self._load("crossval.json", CrossValidationSummary, advice)

    def search(self) -> TuneSummary | None:
        """Return the content of tune.json, None if the folder holds no finished search."""
        return self._load("tune.json", TuneSummary, "Type the same earmark tune again; finished trials are kept.")

    def config_text(self) -> str:
        """Return config.yaml, the settings as a user would write them.

        Raises:
            TrainError: The file is missing, too large, or not text.
        """
        path = self.folder / "config.yaml"
        try:
            content = path.read_at_most(LARGEST_YAML + 1)
            if len(content) > LARGEST_YAML:
                raise ValueError(f"has more than {LARGEST_YAML:,} bytes")
            return content.decode("utf-8")
        except OSError as error:
            raise TrainError(f"cannot read {path}: {describe(error)}. {_WRITE_CONFIG}") from error
        except ValueError as error:
            raise TrainError(f"{path} is not as Earmark writes it: {error}. {_WRITE_CONFIG}") from error

    def featurize_settings(self) -> dict[str, Any]:
        """Return the section `featurize` of config.yaml, without validation: it may be of another version.

        Raises:
            TrainError: The file is missing or broken.
        """
        path = self.folder / "config.yaml"
        try:
            settings = parse_yaml(self.config_text())
        except ValueError as error:
            raise TrainError(f"{path} {error}. {_WRITE_CONFIG}") from error
        section = (settings.get("featurize") or {}) if isinstance(settings, dict) else None
        if not isinstance(section, dict):
            raise TrainError(f"{path} is not as Earmark writes it: expected sections of settings. {_WRITE_CONFIG}")
        return {str(key): value for key, value in section.items()}

    def latest_step(self) -> int:
        """Return the number of finished steps in the latest complete checkpoint, 0 if there is none.

        For an ensemble, it is the largest number of a member.
        """
        runs = [self, *self.member_runs()]
        return max((name.step for run in runs for name in complete_checkpoints(run.checkpoints)), default=0)

    def member(self, number: int) -> "Run":
        """Return the run of a member of an ensemble; the first one has the number 0."""
        return Run(self.folder / MEMBERS / str(number))

    def member_runs(self) -> list["Run"]:
        """Return the runs of the members of an ensemble that exist; none if the run is of one model."""
        names = (self.folder / MEMBERS).names()
        return [self.member(number) for number in sorted(int(name) for name in names if name.isdecimal())]

    def read(self, name: str) -> Any:
        """Return the unvalidated content of a JSON file of the run, None if the file does not exist.

        Raises:
            TrainError: The file is not JSON.
        """
        return self._load(name, object, TRAIN_AGAIN)

    def write(self, name: str, content: Any) -> None:
        """Write a JSON file of the run atomically."""
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (self.folder / name).write(text.encode())

    def _load(self, name: str, kind: type[T], advice: str) -> T | None:
        """Return the validated content of a JSON file, None if the file does not exist.

        Args:
            name: File name.
            kind: Type of the content.
            advice: Advice for the error message.

        Raises:
            TrainError: The file is not JSON, or does not match the type.
        """
        try:
            return TypeAdapter(kind).validate_python(read_json(self.folder / name))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise TrainError(f"cannot read {self.folder / name}: {describe(error)}.") from error
        except ValidationError as error:
            raise self._invalid(name, explain(error), advice) from error
        except ValueError as error:
            raise TrainError(f"{self.folder / name} {one_line(error)}. {advice}") from error

    def _invalid(self, name: str, problem: str, advice: str) -> TrainError:
        return TrainError(f"{self.folder / name} is not as Earmark writes it: {problem}. {advice}")

    def _existing_info(self) -> RunInfo:
        """Return the content of run.json.

        Raises:
            TrainError: The folder holds no run, or run.json is broken.
        """
        info = self.info()
        if not info:
            raise TrainError(f"{self.folder} holds no run: run.json is missing. {self._how_to_train()}")
        return info

    def _how_to_train(self) -> str:
        """Return what to type for a folder that was expected to hold a run."""
        if self.folder.is_file() and (outer := self.folder.parent / "run.json").is_file():
            return f"Give the folder of the run: {outer.parent}"
        if search := self.search():
            return (
                f"It holds the trials of a search, each of them a run; the best: {self.folder / search.best_name}"
            )
        if inside := runs_inside(self.folder):
            return f"It holds {inside}. Give the folder of one of them"
        if self.cross_validation():
            return f"It holds the folds of a cross-validation, each of them a run: {self.folder / 'fold=0'}, ..."
        try:
            refuse_foreign_run_folder(self.folder)
        except FeaturizeError:
            return "Give the folder of a run. To train one, type: earmark train FEATURES --out RUN, with a new RUN"
        return f"Train first: earmark train FEATURES --out {self.folder.quoted}"
