"""`earmark tune`: draws trials from a space, trains them in child processes, and writes the settings of the best.

The test fold is neither read nor evaluated. The process that starts the trials imports no TensorFlow.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from featurize.dataset.dataset import Dataset, open_dataset
from featurize.dataset.output_folder import refuse_foreign_run_folder
from featurize.execution.folder_lock import only_run_in
from featurize.storage import StoragePath
from jobs.config import JobConfig, featurized_with, to_yaml
from jobs.cross_validation import folds_at_once, refuse_freeze, share_of_gpus
from jobs.errors import ConfigError
from jobs.terminal.console import ConsoleReporter
from jobs.terminal.signals import noted_signals
from jobs.tuning.halving import rungs_of
from jobs.tuning.space import Trial, draw_trials, read_space
from jobs.tuning.summary import summarize
from jobs.tuning.trials import TrialRuns, refuse_other_trial, trial_folder
from jobs.tuning.values import Choice, Values
from train.config import TrainConfig
from train.errors import TrainError
from train.folds import resolve_folds
from train.input.missing_classes import refuse_missing_classes
from train.model.code_file import keep_code, read_code
from train.model_names import parse_function
from train.run import Run
from train.run_checks import refuse_other_runs
from train.segment_size import refuse_unfit
from train.summary_records import TuneSummary

_log = logging.getLogger(__name__)


def tune(
    features: StoragePath,
    space_file: Path,
    samples: int,
    out: StoragePath,
    config: JobConfig,
    reporter: ConsoleReporter,
    at_once: int | None = None,
    command: Sequence[str] | None = None,
) -> TuneSummary:
    """Search a space for the settings that are best on the validation fold; finished trials are kept.

    Args:
        features: Dataset folder.
        space_file: YAML file of the settings that vary.
        samples: Number of trials.
        out: Output folder, with one run folder per trial, `tune.json`, and the best settings in `best.yaml`.
        config: Settings of all trials.
        reporter: Shows progress.
        at_once: Number of trials that are trained at a time; None for as many as there is room for.
        command: Arguments of `earmark`, for run.json; None if it is called from Python.

    Returns:
        Content of `tune.json`.

    Raises:
        ConfigError: The space or the settings cannot be used.
        DatasetError: The dataset is incomplete.
        TrainError: The dataset cannot be trained on, the folder of a trial has other settings, or every trial
            diverged.
        Interrupted: A signal stopped training; checkpoints have been written.
    """
    space = read_space(space_file)
    _refuse_ensemble(config.train)
    refuse_freeze(config.train)
    dataset = open_dataset(features)
    refuse_foreign_run_folder(out)
    refuse_other_runs(Run(out), "trial")
    config = config.model_copy(update={"train": _compared_by_validation(config.train, dataset)})
    if (features_config := features / "config.yaml").is_file():  # best.yaml names the settings of this dataset
        config = config.model_copy(update={"featurize": featurized_with(features_config)})
    trials = draw_trials(space, config, samples)
    rungs = rungs_of(max(trial.config.train.epochs for trial in trials))
    _refuse_rare_evaluation(config.train, rungs)
    _refuse_unusable(trials, dataset)
    _refuse_same_names(_models(config, space))
    if not _have_begun(out, trials):
        for model in _models(config, space):
            read_code(model)  # refuses a file that cannot be used
    for trial in trials:
        refuse_other_trial(
            Run(trial_folder(out, trial.number)), dataset, _as_recorded(trial.config.train, dataset)
        )
    if len(trials) < samples:
        _log.info(f"The space has {len(trials)} combinations, so there are {len(trials)} trials, not {samples}.")
    count = at_once or folds_at_once(len(trials), config.train)
    slots = [share_of_gpus(slot, count, config.train) for slot in range(count)]
    with only_run_in(out), reporter.tuning() as progress, noted_signals() as stop:
        config, space = _with_kept_code(out, config, space, _have_begun(out, trials))
        trials = draw_trials(space, config, samples)
        runs = TrialRuns(features, out, trials, rungs, progress, command)
        runs.train(slots, stop)
        summary = summarize(out, dataset, trials, rungs, runs.progress, runs.outcome)
        Run(out).write("tune.json", summary.to_json())
        best = trials[summary.best - 1].config
        (out / "best.yaml").write(to_yaml(best).encode())
    return summary


def _compared_by_validation(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """Return settings that have a validation fold and do not evaluate the test fold.

    Raises:
        ConfigError: They explicitly have none, or they do.
    """
    if config.best_epoch_on_test:
        raise ConfigError(
            "train.best_epoch_on_test = true evaluates the test fold in each epoch, and a search must not use it. "
            "Add: --set train.best_epoch_on_test=false"
        )
    if config.validation_fold == "auto" and dataset.layout.validation is None:
        _log.info("The validation fold is the one after the test fold: train.validation_fold = next.")
        config = config.model_copy(update={"validation_fold": "next"})
    if config.validation_fold == "none":
        raise ConfigError(
            "train.validation_fold = none, but trials are compared by the validation fold. Add: --set "
            "train.validation_fold=next"
        )
    return config


def _refuse_rare_evaluation(config: TrainConfig, rungs: Sequence[int]) -> None:
    if rungs and config.evaluate_every > rungs[0]:
        raise ConfigError(
            f"train.evaluate_every = {config.evaluate_every}, but trials are compared after epoch {rungs[0]}. "
            f"Add: --set train.evaluate_every={rungs[0]}"
        )


def _refuse_ensemble(config: TrainConfig) -> None:
    if config.ensemble > 1:
        raise ConfigError(
            f"train.ensemble = {config.ensemble}, but trials are compared epoch by epoch, which the members of an "
            "ensemble do not share. Search with --set train.ensemble=1, and train the best settings as an "
            "ensemble"
        )


def _refuse_unusable(trials: Sequence[Trial], dataset: Dataset) -> None:
    """Raise a TrainError if a trial cannot be trained on the dataset, before the first is trained."""
    for trial in trials:
        try:
            refuse_unfit(dataset.info.settings.shape, trial.config.train)
        except TrainError as error:
            raise TrainError(f"trial {trial.number}: {error}") from error
    resolved = resolve_folds(trials[0].config.train, dataset.layout)
    refuse_missing_classes(dataset, resolved)


def _have_begun(out: StoragePath, trials: Sequence[Trial]) -> bool:
    return any(Run(trial_folder(out, trial.number)).info() for trial in trials)


def _models(config: JobConfig, space: Mapping[str, Values]) -> tuple[str, ...]:
    """Return the models of all trials, as `train.model` names them."""
    models = space.get("train.model")
    return models.values if isinstance(models, Choice) else (config.train.model,)


def _refuse_same_names(models: Sequence[str]) -> None:
    sources: dict[str, str] = {}
    for function in filter(None, map(parse_function, models)):
        if sources.setdefault(function.file, function.source) != function.source:
            raise ConfigError(
                f"train.model: {sources[function.file]} and {function.source} have the same name, and a search "
                "keeps a copy of each. Rename one of them"
            )


def _with_kept_code(
    out: StoragePath, config: JobConfig, space: Mapping[str, Values], begun: bool
) -> tuple[JobConfig, dict[str, Values]]:
    """Copy the files of a user's models into the folder, and return settings and a space that name the copies."""
    kept = [
        keep_code(out, config.train.model_copy(update={"model": model}), begun).model
        for model in _models(config, space)
    ]
    if "train.model" in space:
        return config, {**space, "train.model": Choice(tuple(kept))}
    return config.model_copy(update={"train": config.train.model_copy(update={"model": kept[0]})}), {**space}


def _as_recorded(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """Return settings as a run records them."""
    resolved = resolve_folds(config, dataset.layout)
    function = parse_function(config.model)
    return resolved.model_copy(update={"model": function.recorded}) if function else resolved
