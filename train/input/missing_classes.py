"""Refuse to train if a class has no tracks to learn from, or a held-out part has none; say why and what helps."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow.compute as pc

from featurize.dataset.dataset import Dataset
from featurize.display import one_line
from train.config import TrainConfig
from train.errors import TrainError
from train.folds import FoldRoles, fold_roles
from train.input.class_counts import segment_counts

_CLASSES_SHOWN = 5

Tracks = Mapping[tuple[str, int], int]


def refuse_missing_classes(dataset: Dataset, config: TrainConfig, cross_validation: bool = False) -> None:
    """Check that every class has training tracks and every held-out part has tracks.

    Args:
        dataset: Dataset from `open_dataset`.
        config: Settings.
        cross_validation: Whether the settings are those of one fold of a cross-validation, so that another test
            fold is no way out.

    Raises:
        TrainError: A class has no tracks to learn from, or a held-out part is empty.
    """
    empty, unlearned = _problems(dataset, config)
    if not (empty or unlearned):
        return
    roles = fold_roles(config, dataset.layout)
    kept = {(entry.label, entry.fold): entry.tracks for entry in dataset.info.counts}
    rejected = _rejected(dataset)
    if empty:
        problem = f"no tracks are left for {' and '.join(empty)}"
        folds = set().union(*(roles.parts[part] for part in empty))
        if lost := sum(count for (_, fold), count in rejected.items() if fold in folds):
            problem += f": {lost} {'was' if lost == 1 else 'were'} rejected"
    else:
        reasons = [
            f"{one_line(label)} from: {', '.join(_whereabouts(label, dataset, roles, kept, rejected))}"
            for label in unlearned[:_CLASSES_SHOWN]
        ]
        problem = f"no track to learn {'; '.join(reasons)}"
        if len(unlearned) > _CLASSES_SHOWN:
            problem += f"; and none to learn {len(unlearned) - _CLASSES_SHOWN} more classes from"
        lost = sum(count for (label, _), count in rejected.items() if label in unlearned)
    advice = "; or ".join(_advice(dataset, config, bool(lost), cross_validation))
    raise TrainError(f"{problem}. {advice[0].upper()}{advice[1:]}")


def _problems(dataset: Dataset, config: TrainConfig) -> tuple[list[str], list[str]]:
    """Return the parts without tracks, and the classes without training tracks."""
    counts = segment_counts(dataset, config)
    empty = [part for part, count in counts.items() if not count.sum()]
    return empty, [
        label for label, count in zip(dataset.classes, counts["train"].tolist(), strict=True) if not count
    ]


def _rejected(dataset: Dataset) -> Tracks:
    """Return the number of rejected tracks by class and fold."""
    tracks = dataset.tracks().select(["track", "label", "fold"])
    rejects = dataset.rejects()["path"].combine_chunks()
    rejected = tracks.filter(pc.is_in(tracks["track"], value_set=rejects))
    counts = rejected.group_by(["label", "fold"]).aggregate([([], "count_all")])
    return {(row["label"], row["fold"]): row["count_all"] for row in counts.to_pylist()}


def _whereabouts(label: str, dataset: Dataset, roles: FoldRoles, kept: Tracks, rejected: Tracks) -> Iterator[str]:
    """Yield where the tracks of a class are that has none to learn from."""
    lost: Counter[str] = Counter()
    for (name, _), count in rejected.items():
        lost[name] += count
    part_of = {fold: part for part, fold in roles.held_out.items()}
    held = {fold: count for (name, fold), count in sorted(kept.items()) if name == label and count}
    if not held:
        yield "its only track was rejected" if lost[label] == 1 else f"all its {lost[label]} tracks were rejected"
        return
    for fold, count in held.items():
        where = dataset.layout.name_of(fold)
        part = part_of.get(fold, "not used")
        yield f"{count} in {'the ' if where.endswith('split') else ''}{where} ({part})"
    if lost[label]:
        yield f"{lost[label]} {'was' if lost[label] == 1 else 'were'} rejected"


def _advice(dataset: Dataset, config: TrainConfig, rejects: bool, cross_validation: bool) -> Iterator[str]:
    """Yield what helps; settings only if they were found to help."""
    if rejects:
        yield (
            f"fix the rejected files, which {dataset.folder / 'rejects.parquet'} lists with reasons, and type "
            f"earmark featurize MUSIC --out {dataset.folder} --retry-rejects"
        )

    def helps(**settings: Any) -> bool:
        changed = config.model_copy(update=settings)
        try:
            return not any(_problems(dataset, changed))
        except TrainError:
            return False

    others = [fold for fold in dataset.layout.training if helps(test_fold=fold)]
    if config.selects_epoch and config.patience is None and helps(validation_fold="none"):
        yield "train on the validation fold as well: --set train.validation_fold=none"
    elif others and cross_validation:
        yield (
            "evaluate on one fold instead of on each, of which every class needs two: earmark train "
            f"{dataset.folder} --out RUN --set train.test_fold={others[0]}"
        )
    elif others:
        yield f"choose another train.test_fold, such as --set train.test_fold={others[0]}"
    elif not rejects:
        yield (
            "add tracks by other artists (or of other groups, which are never divided over folds), or remove "
            "the class from the collection, and featurize again."
        )
