"""Members with different seeds, trained one after another and saved as one model (`train.ensemble`).

    RUN/members/0, 1, ...   a complete run each: settings, checkpoints, history and model of each member
    RUN/tensorboard/        the curves of all members, each in a folder of its number
    RUN/model.keras         all members: the mean of their probabilities

A member is trained as a run without members is, so that whatever is true of such a run, as that it resumes to the
bit, is true of each member; the model of the run is a function of the finished members.
"""

from collections.abc import Sequence

import numpy as np
import yaml

from featurize.dataset.dataset import Dataset
from featurize.dataset.yaml_text import parse_yaml
from train.callbacks import Callbacks
from train.config import TrainConfig
from train.evaluation.held_out import held_out
from train.evaluation.inference import load_model
from train.fit.calibrate import calibrate
from train.fit.saved_model import save_model
from train.folds import fold_roles
from train.model.ensemble import combine
from train.model.strategy import make_strategy
from train.records import EpochRecord, HeldOutFigures, TrainFigures
from train.run import Run
from train.run_checks import refuse_removed


def member_seed(seed: int, number: int) -> int:
    """Return the seed of a member.

    Those of an ensemble with another seed are other ones, so that ensembles with the seeds 0, 1, 2, ... have no
    member in common.
    """
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0] >> 1)


def members(run: Run, config: TrainConfig) -> list[tuple[Run, TrainConfig]]:
    """Return the run and the settings of each member of an ensemble."""
    return [
        (run.member(number), config.model_copy(update=_changes(config, number)))
        for number in range(config.ensemble)
    ]


def member_config_text(text: str, config: TrainConfig, number: int) -> str:
    """Return the config of a run with the settings of a member, as YAML."""
    sections = parse_yaml(text)
    sections = dict(sections) if isinstance(sections, dict) else {}
    train = sections.get("train")
    sections["train"] = {**(train if isinstance(train, dict) else {}), **_changes(config, number)}
    dumped: str = yaml.safe_dump(sections, sort_keys=False)
    return dumped


def _changes(config: TrainConfig, number: int) -> dict[str, int | bool]:
    # The mean of the members is calibrated: calibrated members would have a mean that is too unsure.
    return {"ensemble": 1, "seed": member_seed(config.seed, number), "calibrate": False}


def of_member(callbacks: Callbacks, number: int, count: int) -> Callbacks:
    """Return callbacks of one member that report the steps of all members."""
    return Callbacks(
        step=lambda done, total: callbacks.step(number * total + done, count * total),
        epoch=callbacks.epoch,
        stop=callbacks.stop,
        measured=callbacks.measured,
    )


def save_ensemble(dataset: Dataset, run: Run, config: TrainConfig) -> None:
    """Write the model of all members, its history and model.json, and into run.json which layers they took."""
    ensemble = [member for member, _ in members(run, config)]
    strategy = make_strategy(config)
    with strategy.scope():
        model = combine([load_model(member, trust_code=config.is_users_model) for member in ensemble])
    temperature = None
    if config.calibrate:
        fold = fold_roles(config, dataset.layout).held_out["validation"]
        temperature = calibrate(model, strategy, held_out(dataset, config, fold))
    refuse_removed(run)
    info, of_first = run.info(), ensemble[0].info()
    if info and of_first and of_first.initial:  # all members took the same
        run.write("run.json", info.model_copy(update={"initial": of_first.initial}).to_json())
    history = mean_history([member.history() for member in ensemble])
    run.write("history.json", [entry.to_json() for entry in history])
    save_model(run, model, dataset, config, temperature, max(member.trained().epoch for member in ensemble))


def mean_history(histories: Sequence[Sequence[EpochRecord]]) -> list[EpochRecord]:
    """Return the mean figures of each epoch over the members that have it; the seconds are those of all together.

    Members may stop early at different epochs (`train.patience`): the last epochs are those of the others.
    """
    longest = max(map(len, histories))
    return [_mean_record([each[epoch] for each in histories if epoch < len(each)]) for epoch in range(longest)]


def _mean_record(records: Sequence[EpochRecord]) -> EpochRecord:
    first = records[0]
    validation = [record.validation for record in records if record.validation]
    held_out = {"validation": HeldOutFigures(**_means(validation))} if validation else {}
    return EpochRecord(
        epoch=first.epoch,
        train=TrainFigures(**_means([record.train for record in records])),
        learning_rate=first.learning_rate,
        seconds=sum(record.seconds for record in records),
        examples_per_second=float(np.mean([record.examples_per_second for record in records])),
        wait_fraction=float(np.mean([record.wait_fraction for record in records])),
        **held_out,
    )


def _means(figures: Sequence[TrainFigures]) -> dict[str, float]:
    names = type(figures[0]).model_fields
    return {name: float(np.mean([getattr(each, name) for each in figures])) for name in names}
