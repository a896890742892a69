"""Classes and held-out folds without tracks: why training is refused, and advice that works there."""

from types import SimpleNamespace

import pyarrow as pa
import pytest

from featurize.dataset.info import DEFAULT_LAYOUT, ClassFoldCount, FoldLayout
from featurize.storage import StoragePath
from train.config import TrainConfig
from train.errors import TrainError
from train.folds import describe_folds, fold_roles, resolve_folds
from train.input.missing_classes import refuse_missing_classes

SPLIT = FoldLayout(training=[0, 1, 2], test=3)


def dataset(kept, rejected=None, layout=DEFAULT_LAYOUT):
    """A dataset with so many tracks of each class in each fold, as {class: {fold: tracks}}."""
    counts = [
        ClassFoldCount(label=label, fold=fold, tracks=count, groups=count, segments=count * 4)
        for label, folds in kept.items()
        for fold, count in folds.items()
    ]
    rejects = [(label, fold) for label, folds in (rejected or {}).items() for fold in folds.items()]
    rows = [(label, fold) for label, (fold, count) in rejects for _ in range(count)]
    ids = [f"{n}.mp3" for n in range(len(rows))]
    tracks = {"track": ids, "label": [row[0] for row in rows], "fold": [row[1] for row in rows]}
    schema = pa.schema({"track": pa.string(), "label": pa.string(), "fold": pa.int32()})
    return SimpleNamespace(
        folder=StoragePath.of("/features"),
        classes=sorted({*kept, *(rejected or {})}),
        info=SimpleNamespace(counts=counts),
        layout=layout,
        tracks=lambda: pa.table(tracks, schema=schema),
        rejects=lambda: pa.table({"path": pa.array(ids, pa.string())}),
    )


EVERYWHERE = dict.fromkeys(range(5), 2)


@pytest.mark.parametrize(
    ("kept", "rejected", "settings", "message"),
    [
        (
            {"pop": EVERYWHERE, "ska": {0: 3}},
            {},
            {},
            "no track to learn ska from: 3 in fold 0 (test). Choose another train.test_fold, such as --set "
            "train.test_fold=1",
        ),
        (
            {"pop": EVERYWHERE},
            {"ska": {0: 1, 3: 2}},
            {},
            "no track to learn ska from: all its 3 tracks were rejected. Fix the rejected files, which "
            "/features/rejects.parquet lists with reasons, and type earmark featurize MUSIC --out /features "
            "--retry-rejects",
        ),
        (
            {"pop": EVERYWHERE, "ska": {0: 1}},
            {"ska": {2: 1}},
            {"validation_fold": "next"},
            "no track to learn ska from: 1 in fold 0 (test), 1 was rejected. Fix the rejected files, which "
            "/features/rejects.parquet lists with reasons, and type earmark featurize MUSIC --out /features "
            "--retry-rejects; or choose another train.test_fold, such as --set train.test_fold=1",
        ),
        (
            {"pop": EVERYWHERE, "ska": {1: 2}},
            {},
            {"validation_fold": "next"},
            "no track to learn ska from: 2 in fold 1 (validation). Train on the validation fold as well: --set "
            "train.validation_fold=none",
        ),
        (
            {"pop": EVERYWHERE, "ska": {0: 1}, "dub": {1: 1}},
            {},
            {"test_fold": 0, "validation_fold": 1, "patience": 2},
            "no track to learn dub from: 1 in fold 1 (validation); ska from: 1 in fold 0 (test). Add tracks by "
            "other artists (or of other groups, which are never divided over folds), or remove the class from the "
            "collection, and featurize again.",
        ),
        (
            {"pop": {0: 9}, "ska": {0: 9}},
            {"ska": {4: 1}, "pop": {1: 2}},
            {"test_fold": 4},
            "no tracks are left for test: 1 was rejected. Fix",
        ),
        ({"pop": {0: 9}, "ska": {0: 9}}, {}, {}, "no tracks are left for train. Add tracks by other artists"),
    ],
)
def test_the_reason_and_the_advice(kept, rejected, settings, message):
    with pytest.raises(TrainError) as caught:
        refuse_missing_classes(dataset(kept, rejected), TrainConfig(**settings))
    assert str(caught.value).startswith(message)


def test_many_classes_are_named_up_to_five():
    kept = {"pop": EVERYWHERE} | {f"class {n}": {0: 1} for n in range(120)}
    with pytest.raises(TrainError, match="; and none to learn 115 more classes from") as caught:
        refuse_missing_classes(dataset(kept), TrainConfig())
    assert len(str(caught.value)) < 500


def test_a_class_of_the_official_test_split_only_is_named_as_such():
    kept = {"pop": dict.fromkeys(range(4), 2), "ska": {3: 2}}
    with pytest.raises(TrainError, match=r"ska from: 2 in the test split \(test\), 3 were rejected\. Fix"):
        refuse_missing_classes(dataset(kept, {"ska": {1: 3}}, SPLIT), TrainConfig())
    with pytest.raises(TrainError, match=r"ska from: 2 in the test split \(not used\)\. Add tracks"):
        refuse_missing_classes(dataset(kept, {}, SPLIT), TrainConfig(test_fold=1))


def test_in_a_cross_validation_another_test_fold_is_no_advice():
    kept = {"pop": EVERYWHERE, "ska": {0: 3}}
    with pytest.raises(TrainError) as caught:
        refuse_missing_classes(dataset(kept), TrainConfig(test_fold=0), cross_validation=True)
    assert "hoose another" not in str(caught.value)
    assert str(caught.value).endswith("earmark train /features --out RUN --set train.test_fold=1")


@pytest.mark.parametrize(
    ("settings", "layout", "test", "validation"),
    [
        ({}, DEFAULT_LAYOUT, 0, "none"),
        ({}, SPLIT, "split", "none"),
        ({}, FoldLayout(training=[1, 2], validation=4), 1, "split"),
        ({"test_fold": 2}, FoldLayout(training=[0, 1, 2], validation=3, test=4), 2, "split"),
        ({"validation_fold": "none"}, FoldLayout(training=[0, 1], validation=3, test=4), "split", "none"),
    ],
)
def test_the_official_splits_are_the_default(settings, layout, test, validation):
    config = resolve_folds(TrainConfig(**settings), layout)
    assert (config.test_fold, config.validation_fold) == (test, validation)
    assert resolve_folds(config, layout) == config


@pytest.mark.parametrize("count", range(2, 21))
def test_the_next_fold_validates_and_no_fold_has_two_roles(count):
    layout = FoldLayout(training=list(range(count)), test=count)
    for test in (*range(count), "split"):
        if count == 2 and test != "split":
            with pytest.raises(TrainError, match=r"leave none of the folds 0, 1.*validation_fold=none"):
                resolve_folds(TrainConfig(test_fold=test, validation_fold="next"), layout)
            continue
        roles = fold_roles(TrainConfig(test_fold=test, validation_fold="next"), layout)
        assert roles.held_out["validation"] == (0 if test == "split" else (test + 1) % count)
        folds = [*roles.train, *roles.held_out.values(), *roles.left_out]
        assert sorted(folds) == list(range(count + 1))
        assert count not in roles.train


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"test_fold": 7}, "test_fold = 7, but the dataset has no fold 7. Expected one of 0, 1, 2, split"),
        ({"test_fold": 3}, "test_fold = 3, but the dataset has the official test split in fold 3. Expected"),
        ({"validation_fold": 3}, "validation_fold = 3, but the dataset has the official test split in fold 3"),
        ({"validation_fold": "split"}, "has no official validation split. Expected one of 0, 1, 2, such as"),
    ],
)
def test_folds_that_the_dataset_does_not_have_are_refused(settings, message):
    with pytest.raises(TrainError) as caught:
        resolve_folds(TrainConfig(**settings), SPLIT)
    assert message in str(caught.value)


def test_the_same_fold_for_both_is_refused_also_by_default():
    with pytest.raises(TrainError, match="fold 0 cannot both test and validate"):
        resolve_folds(TrainConfig(validation_fold=0), DEFAULT_LAYOUT)


def test_the_log_says_which_folds_are_used_and_which_splits_are_not():
    layout = FoldLayout(training=[0, 1, 2], validation=3, test=4)
    assert describe_folds(TrainConfig(test_fold=1, validation_fold="none"), layout) == (
        "Training uses folds 0, 2; test on fold 1. Not used: the official validation split and the official test "
        "split."
    )
