"""Which folds of a dataset a run trains on, and which it is evaluated on; official splits are never trained on."""

import dataclasses

from featurize.dataset.info import FoldLayout
from train.config import TrainConfig
from train.errors import TrainError


@dataclasses.dataclass(frozen=True)
class FoldRoles:
    """Roles of all folds of a dataset in one run.

    Attributes:
        train: Folds to train on.
        held_out: The fold of `validation`, if there is one, and of `test`.
        left_out: Official splits that the run neither trains on nor is evaluated on.
    """

    train: frozenset[int]
    held_out: dict[str, int]
    left_out: frozenset[int]

    @property
    def parts(self) -> dict[str, frozenset[int]]:
        """The folds of `train`, and of each held-out part."""
        return {"train": self.train, **{part: frozenset([fold]) for part, fold in self.held_out.items()}}


def resolve_folds(config: TrainConfig, layout: FoldLayout) -> TrainConfig:
    """Return settings in which `auto` is replaced by what it stands for in a dataset.

    Raises:
        TrainError: The dataset does not have the folds of the settings, or none is left to train on.
    """
    resolved = _without_auto(config, layout)
    if not fold_roles(resolved, layout).train:
        raise TrainError(
            f"train.test_fold = {resolved.test_fold} and train.validation_fold = {resolved.validation_fold} leave "
            f"none of the folds {', '.join(map(str, layout.training))} to train on. Type --set "
            "train.validation_fold=none"
        )
    return resolved


def fold_roles(config: TrainConfig, layout: FoldLayout) -> FoldRoles:
    """Return the roles of the folds of a dataset.

    Raises:
        TrainError: The dataset does not have the folds of the settings.
    """
    config = _without_auto(config, layout)
    test = _fold("test", config.test_fold, layout)
    held_out = {"test": test}
    if config.selects_epoch:
        value = config.validation_fold
        validation = _next(test, layout) if value == "next" else _fold("validation", value, layout)
        if validation == test:
            raise TrainError(
                f"fold {test} cannot both test and validate. Type --set train.validation_fold=none, or another "
                "train.test_fold"
            )
        held_out = {"validation": validation, "test": test}
    used = set(held_out.values())
    return FoldRoles(
        frozenset(set(layout.training) - used), held_out, frozenset(set(layout.official.values()) - used)
    )


def _without_auto(config: TrainConfig, layout: FoldLayout) -> TrainConfig:
    test: int | str = config.test_fold
    if test == "auto":
        test = layout.training[0] if layout.test is None else "split"
    validation: int | str = config.validation_fold
    if validation == "auto":
        validation = "none" if layout.validation is None else "split"
    return config.model_copy(update={"test_fold": test, "validation_fold": validation})


def _next(fold: int, layout: FoldLayout) -> int:
    """Return the training fold after a fold; the first one after the last one, and after an official split."""
    position = layout.training.index(fold) + 1 if fold in layout.training else 0
    return layout.training[position % len(layout.training)]


def _fold(part: str, value: int | str, layout: FoldLayout) -> int:
    """Return the number of the fold that `test_fold` or `validation_fold` names."""
    setting = f"train.{part}_fold"
    available = [*map(str, layout.training), *(["split"] if part in layout.official else [])]
    if isinstance(value, int) and value in layout.training:
        return value
    if value == "split" and part in layout.official:
        return layout.official[part]
    found = f"{setting} = {value}, but the dataset has "
    if value == "split":
        found += f"no official {part} split"
    elif (name := layout.name_of(int(value))) != f"fold {value}":
        found += f"the official {name} in fold {value}"
    else:
        found += f"no fold {value}"
    raise TrainError(f"{found}. Expected one of {', '.join(available)}, such as --set {setting}={available[-1]}")


def describe_folds(config: TrainConfig, layout: FoldLayout) -> str:
    """Return a sentence or two for the log: the folds that a run uses, and official splits that it does not."""
    roles = fold_roles(config, layout)
    folds = ", ".join(map(str, sorted(roles.train)))
    held_out = "; ".join(f"{part} on {_title(fold, layout)}" for part, fold in roles.held_out.items())
    unused = " and ".join(_title(fold, layout) for fold in sorted(roles.left_out))
    return (
        f"Training uses fold{'s' if len(roles.train) > 1 else ''} {folds}; {held_out}."
        + (f" Not used: {unused}." if unused else "")
    )  # fmt: skip


def _title(fold: int, layout: FoldLayout) -> str:
    """Return what a fold is called in a sentence: `fold 3`, or `the official test split`."""
    name = layout.name_of(fold)
    return f"the official {name}" if fold in layout.official.values() else name
