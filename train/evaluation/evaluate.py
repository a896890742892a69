"""Evaluation of a finished run on its test fold: predictions, metrics, and TensorBoard's final figures."""

import pyarrow as pa
import pyarrow.compute as pc

from featurize.dataset.dataset import Dataset
from featurize.dataset.feature_settings import FeatureSettings
from featurize.display import one_line
from train.config import TrainConfig
from train.errors import TrainError
from train.evaluation.final_events import write_final_events
from train.evaluation.held_out import held_out
from train.evaluation.inference import load_model
from train.evaluation.intervals import Groups, statistics_of
from train.evaluation.prediction_parts import PredictionWriter, has_predictions, read_predictions
from train.evaluation.predictor import Predictor
from train.folds import fold_roles
from train.model.strategy import make_strategy
from train.records import ModelInfo
from train.run import Run
from train.run_checks import refuse_other_model, sha256_of_model
from train.score_records import Metrics, Split, SplitPart

_NAMES_SHOWN = 5


def evaluate_run(run: Run, dataset: Dataset, trust_code: bool = False) -> Metrics:
    """Evaluate the model of a run on the test fold; write `predictions.parquet`, then `metrics.json`.

    The report and earlier predictions are removed when the first part of the new ones is complete, so that a run
    never has a report of older metrics. The segments of the fold are read, predicted and written part by part.

    Args:
        run: Run folder.
        dataset: Dataset that the run was trained on.
        trust_code: Whether code in the run may be executed, as in `load_model`.

    Returns:
        The content of `metrics.json`.

    Raises:
        TrainError: The run has no model, or was trained on a different dataset.
    """
    model_info = run.trained()
    if model_info.dataset != dataset.id:
        raise TrainError(
            f"{run.folder} was trained on the dataset {one_line(model_info.dataset)}, and {dataset.folder} is "
            f"{one_line(dataset.id)}: {_difference(model_info, dataset)}. To evaluate the model on it as an "
            f"external test set, type: earmark evaluate {run.folder.quoted} --on {dataset.folder.quoted} "
            "--out FOLDER"
        )
    refuse_other_model(run, model_info, dataset)
    config = run.config()
    strategy = make_strategy(config.model_copy(update={"workers": 1}))
    with strategy.scope():
        model = load_model(run, trust_code)
    test_fold = fold_roles(config, dataset.layout).held_out["test"]
    fold = held_out(dataset, config, test_fold)
    scores = fold.score(Predictor(strategy, model), PredictionWriter(run, fold).add)
    intervals, calibration = statistics_of(read_predictions(run), Groups(dataset), len(dataset.classes))
    metrics = Metrics(
        model=config.model,
        epoch=model_info.epoch,
        test_fold=test_fold,
        classes=dataset.classes,
        segments=scores.segments,
        tracks=scores.tracks,
        copies_left_out=scores.copies_left_out,
        split=describe_split(dataset, config),
        model_sha256=sha256_of_model(run),
        intervals=intervals,
        calibration=calibration,
    )
    run.write("metrics.json", metrics.to_json())
    write_final_events(run, config, model_info, metrics)
    return metrics


def _difference(model: ModelInfo, dataset: Dataset) -> str:
    """Return what differs between the dataset of a model and another one, as far as the run records it."""
    here = dict(dataset.info.settings)
    # Stored are only those that are not the default.
    fields = FeatureSettings.model_fields.items()
    defaults = {name: field.default for name, field in fields if not field.is_required()}
    there = {**defaults, **model.features}
    differences = [
        f"{one_line(key)} is {here.get(key)!r} in the dataset, {there.get(key)!r} in the model"
        for key in sorted(here.keys() | there.keys())
        if here.get(key) != there.get(key)
    ]
    for what, names in (
        ("only the dataset has", [name for name in dataset.classes if name not in model.classes]),
        ("only the model has", [name for name in model.classes if name not in dataset.classes]),
    ):
        if names:
            more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
            listed = ", ".join(map(one_line, names[:_NAMES_SHOWN]))
            differences.append(f"{what} the class{'es' if len(names) > 1 else ''} {listed}{more}")
    return "; ".join(differences) or (
        "classes and settings are the same, but it has other tracks, or its small shards were merged"
    )


def is_evaluated(run: Run) -> bool:
    """Return whether a run has both metrics and predictions of its current model."""
    metrics = run.metrics()
    files_exist = has_predictions(run) and run.model.is_file()
    return bool(metrics and files_exist and metrics.model_sha256 == sha256_of_model(run))


def describe_split(dataset: Dataset, config: TrainConfig) -> Split:
    """Count the tracks and groups in each part of the split, and list the groups that are in more than one."""
    tracks, layout = dataset.tracks(), dataset.layout
    roles = fold_roles(config, layout)
    present = set(tracks["fold"].unique().to_pylist())
    groups: dict[str, set[str]] = {}
    parts = {}
    for part, folds in roles.parts.items():
        members, groups[part] = _members(tracks, folds)
        official = {"official": True} if layout.official.get(part) in folds else {}
        parts[part] = SplitPart(
            folds=sorted(folds & present), tracks=members, groups=len(groups[part]), **official
        )
    if roles.left_out:
        members, names = _members(tracks, roles.left_out)
        parts["unused"] = SplitPart(folds=sorted(roles.left_out), tracks=members, groups=len(names), official=True)
    names_of_parts = list(groups)
    shared = {
        group
        for i, part in enumerate(names_of_parts)
        for other in names_of_parts[i + 1 :]
        for group in groups[part] & groups[other]
    }
    return Split(parts=parts, groups_on_two_sides=sorted(shared))


def _members(tracks: pa.Table, folds: frozenset[int]) -> tuple[int, set[str]]:
    """Return the number of tracks in some folds, and the names of their groups."""
    members = tracks.filter(pc.is_in(tracks["fold"], value_set=pa.array(sorted(folds), pa.int32())))
    return members.num_rows, set(members["group"].unique().to_pylist())
