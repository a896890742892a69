"""`earmark labels`: reads the predictions of a cross-validation and the features of its dataset."""

from featurize.dataset.dataset import Dataset
from featurize.dataset.reader import in_threads
from featurize.display import one_line
from featurize.storage import StoragePath
from jobs.moved_dataset import open_dataset_of
from train.errors import TrainError
from train.evaluation.label_review import (
    Outlier,
    doubtful_labels,
    exact_copies,
    find_copies,
    find_outliers,
    fold_runs,
    read_folds,
)
from train.report.labels_page import LabelReview
from train.run import Run
from train.run_checks import refuse_other_model

_SHOWN = 10  # tracks in the terminal


def review_labels(folds: StoragePath, features: StoragePath | None) -> tuple[LabelReview, Dataset]:
    """Review the labels of a collection.

    Args:
        folds: Folder of a finished cross-validation.
        features: Dataset folder; None for the one that the cross-validation was trained on.

    Raises:
        TrainError: The folder holds no finished cross-validation, or its predictions cannot be read.
        DatasetError: The dataset is not where it was.
    """
    runs = fold_runs(Run(folds))
    predicted = read_folds(runs)
    dataset = open_dataset_of(runs[0], features)
    trained = runs[0].trained()
    if trained.dataset != dataset.id:
        raise TrainError(
            f"{folds} was trained on the dataset {one_line(trained.dataset)}, but {dataset.folder} is now "
            f"{one_line(dataset.id)}: tracks or settings have changed, or small shards were merged. Type: "
            f"earmark crossval {dataset.folder.quoted} --out OTHER_FOLDS, then earmark labels OTHER_FOLDS"
        )
    refuse_other_model(runs[0], trained, dataset)
    doubtful = doubtful_labels(predicted)
    copies = find_copies(dataset)
    named = {finding.track for finding in doubtful}
    timelines = {
        track: timeline
        for track, timeline in zip(predicted.tracks, predicted.timelines, strict=True)
        if track in named
    }
    review = LabelReview(
        doubtful,
        copies if copies is not None else exact_copies(dataset),
        copies is not None,
        _outliers(dataset) if copies is not None else [],
        timelines,
        dataset.classes,
    )
    return review, dataset


def describe_review(review: LabelReview) -> str:
    """Return what was found, for the terminal: counts, and the surest wrong labels."""
    disagreeing = sum(copies.disagree for copies in review.copies)
    lines = [
        f"labels    {len(review.doubtful)} probably wrong",
        f"copies    {len(review.copies)} recordings with more than one track, {disagreeing} under different labels"
        + ("" if review.all_compared else " (only identical features: too many tracks to compare all pairs)"),
        f"outliers  {len(review.outliers)} tracks that resemble no other"
        if review.all_compared
        else "outliers  not looked for: too many tracks to compare all pairs",
    ]
    lines += [
        f"  {one_line(finding.track)}: {one_line(finding.label)}, probably {one_line(finding.suggested)} "
        f"({finding.suggested_probability:.0%})"
        for finding in review.doubtful[:_SHOWN]
    ]
    if len(review.doubtful) > _SHOWN:
        lines.append(f"  and {len(review.doubtful) - _SHOWN} more on the page")
    return "\n".join(lines)


def _outliers(dataset: Dataset) -> list[Outlier]:
    import numpy as np

    from train.evaluation.svm_baseline import describe_shard

    shards = [shard for shard in dataset.shards if shard.rows]
    segments = dataset.segments_per_track
    described = list(in_threads(lambda shard: describe_shard(shard, segments, frozenset()), shards))
    vectors, labels, _, _, tracks = (np.concatenate(column) for column in zip(*described, strict=True))
    return find_outliers(vectors, tracks.tolist(), [dataset.classes[label] for label in labels])
