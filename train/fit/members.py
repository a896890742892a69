"""Members with different seeds, trained one after another and saved as one model (`train.ensemble`).

    RUN/members/0, 1, ...   runs of their own: settings, checkpoints, history and model of each member
    RUN/tensorboard/        the curves of all members, each in a folder of its number
    RUN/model.keras         all members: the mean of their probabilities

A member is trained as a run without members is, so that whatever is true of such a run, as that it resumes to the
bit, is true of each member; the model of the run is a function of the finished members.
"""

from collections.abc import Sequence

import numpy as np
import yaml

from featurize.dataset.yaml_text import parse_yaml
from train.config import TrainConfig
from train.records import EpochRecord, HeldOutFigures, TrainFigures
from train.run import Run

FOLDER = "members"


def member_seed(seed: int, number: int) -> int:
    """Return the seed of a member.

    Those of an ensemble with another seed are other ones, so that ensembles with the seeds 0, 1, 2, ... have no
    member in common.
    """
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0] >> 1)


def members(run: Run, config: TrainConfig) -> list[tuple[Run, TrainConfig]]:
    """Return the run and the settings of each member of an ensemble."""
    found = []
    for number in range(config.ensemble):
        member = Run(run.folder / FOLDER / str(number))
        member.tensorboard = run.tensorboard / f"member-{number}"
        found.append((member, config.model_copy(update=_changes(config, number))))
    return found


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


def mean_history(histories: Sequence[Sequence[EpochRecord]]) -> list[EpochRecord]:
    """Return the mean figures of each epoch that all members have; the seconds are those of all together."""
    return [_mean_record(records) for records in zip(*histories, strict=False)]


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
