"""The beginning of training: records what a run is trained on, and whether anything remains to be trained."""

import logging

from featurize.dataset.dataset import Dataset
from train.config import TrainConfig
from train.errors import TrainError
from train.fit.early_stopping import is_trained
from train.fit.initial_weights import InitialModel, store_initial
from train.fit.members import member_config_text, members
from train.folds import describe_folds
from train.input.class_counts import class_warnings
from train.input.missing_classes import refuse_missing_classes
from train.model.code_file import ModelCode, store_code
from train.provenance import Start
from train.records import InitialWeights
from train.run import Run
from train.run_checks import refuse_other_order, refuse_other_settings
from train.segment_size import refuse_unfit

_log = logging.getLogger(__name__)


def begin(
    dataset: Dataset,
    run: Run,
    config: TrainConfig,
    config_text: str,
    code: ModelCode | None = None,
    initial: InitialModel | None = None,
    start: Start | None = None,
) -> bool:
    """Record the dataset and the settings of a run.

    Args:
        dataset: Dataset from `open_dataset`.
        run: Output folder.
        config: Settings from `resolve_folds` and `settle_code`.
        config_text: The whole config as YAML, to be stored with the results.
        code: Code of the model, if it is a user's, from `settle_code`.
        initial: Model that the first weights are taken from, from `settle_initial`.
        start: How training is started, for run.json; None to record nothing.

    Returns:
        Whether training remains to be done; False if the model is already trained for the configured epochs.

    Raises:
        TrainError: The segments do not fit the settings, a class has no tracks to learn from, or the folder holds
            a run with other settings or more epochs, or an unfinished one of a version that reads segments in
            another order.
    """
    begun = [(run, config), *(members(run, config) if config.ensemble > 1 else [])]
    finished, longest = max(((len(each.history()), each) for each, _ in begun), key=lambda pair: pair[0])
    if finished > config.epochs:
        raise TrainError(
            f"{longest.folder} has been trained for {finished} epochs already, but train.epochs = "
            f"{config.epochs}. Type --set train.epochs={finished} or more, or give another --out."
        )
    refuse_unfit(dataset.info.settings.shape, config)
    dataset.refuse_broken_tracks()
    refuse_missing_classes(dataset, config)
    if dataset.layout.official:
        _log.info(describe_folds(config, dataset.layout))
    for warning in class_warnings(dataset, config):
        _log.warning(warning)
    if not config.selects_epoch:
        _log.info(describe_curves(config))
    texts = [config_text]
    if config.ensemble > 1:
        texts += [member_config_text(config_text, config, number) for number in range(config.ensemble)]
    for (folder, settings), text in zip(begun, texts, strict=True):
        remains = not is_complete(folder, settings)
        if remains:
            refuse_other_order(folder)
        refuse_other_settings(folder, dataset, settings)
        folder.begin(
            dataset,
            settings,
            code.info if code else None,
            _initial_of(folder, initial) if initial else None,
            start if remains else None,
        )
        if code:
            store_code(folder, code)
        if initial:
            store_initial(folder, initial)
        (folder.folder / "config.yaml").write(text.encode())
    return not is_complete(run, config)


def _initial_of(run: Run, initial: InitialModel) -> InitialWeights:
    """Return what run.json records: if the run has begun, what it has, with the layers that were taken.

    An ensemble has those layers only when it is finished, each member as soon as it begins.
    """
    recorded = info.initial if (info := run.info()) else None
    return recorded if recorded and initial.content is None else initial.info


def is_complete(run: Run, config: TrainConfig) -> bool:
    """Return whether a run is trained, and all members of an ensemble are."""
    if config.ensemble == 1:
        return is_trained(run, config)
    info, trained = run.model_info(), members(run, config)
    return bool(
        run.model.is_file()
        and info
        and info.epochs == len(run.history()) == max(len(member.history()) for member, _ in trained)
        and all(is_trained(member, settings) for member, settings in trained)
    )


def describe_curves(config: TrainConfig) -> str:
    """Return a sentence on the curves of a run without a validation fold."""
    if config.best_epoch_on_test:
        return (
            "There is no validation fold. The curves of the test fold (train.best_epoch_on_test) are for "
            "comparison with published results only: the best of its epochs overestimates the accuracy on other "
            "music."
        )
    return (
        "There is no validation fold: curves show the training folds only, and the test fold is evaluated once, "
        "after training. Set train.validation_fold=next for curves on tracks that are not trained on."
    )
