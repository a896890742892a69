"""Folds of a plan: official splits, given and partly given folds, any number of folds, and earlier plans."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from featurize.collection.catalog import CATALOG_SCHEMA, Catalog, build_catalog
from featurize.config import FeaturizeConfig
from featurize.dataset.info import DEFAULT_LAYOUT, FoldLayout
from featurize.dataset.output_folder import PLAN_KEY
from featurize.dataset.schema import MAX_FOLDS
from featurize.errors import FeaturizeError
from featurize.planning.folds import GivenFolds, PreviousFolds, assign_folds, resolve_folds
from featurize.planning.groups import Groups, known_groups
from featurize.planning.plan import make_plan
from featurize.planning.previous_plan import read_plan
from featurize.planning.recovered_plan import recover_plan
from featurize.storage import StoragePath


def resolve(rows, previous=None, grouping="artist"):
    """Resolve the folds of (group, label, split, fold) rows."""
    groups, labels, splits, folds = (list(column) for column in zip(*rows, strict=True))
    given = GivenFolds(pa.array(splits, pa.string()), pa.array(folds, pa.int32()))
    return resolve_folds(Groups(grouping, pa.array(groups)), np.array(labels), given, previous)


def rows_of(sizes, split=None, fold=None):
    """Return rows of groups `a`, `b` ... with so many tracks each, labels 0 and 1 in turn."""
    return [
        (chr(97 + group), n % 2, split, fold) for group, size in enumerate(sizes) for n in range(size)
    ]  # fmt: skip


tracks = st.lists(
    st.tuples(
        st.integers(0, 30).map(str),
        st.integers(0, 3),
        st.sampled_from([None, None, "train", "validation", "test"]),
        st.none() | st.integers(0, MAX_FOLDS - 1),
    ),
    min_size=40,
    max_size=120,
)


@settings(max_examples=150)
@given(rows=tracks, share=st.sampled_from([0, 0.3, 1]), with_split=st.booleans())
def test_given_folds_and_splits_are_kept_and_other_groups_are_whole(rows, share, with_split):
    rows = [
        (group, label, split if with_split else None, fold if n < share * len(rows) else None)
        for n, (group, label, split, fold) in enumerate(rows)
    ]
    training = [row for row in rows if row[2] in (None, "train")]
    assume(len({group for group, *_ in training}) >= 5 and len({row[3] for row in training} - {None}) != 1)
    folds, layout = resolve(rows)
    for (_, _, split, fold), resolved in zip(rows, folds, strict=True):
        if split in ("validation", "test"):
            assert resolved == layout.official[split]
        else:
            assert resolved in layout.training
            assert fold in (None, resolved)
    assert layout.official.keys() == {row[2] for row in rows} - {None, "train"}
    free = {}
    for (group, _, split, fold), resolved in zip(rows, folds.tolist(), strict=True):
        if split in (None, "train") and fold is None:
            free.setdefault(group, set()).add(resolved)
    assert all(len(places) == 1 for places in free.values())
    again, same_layout = resolve(rows, PreviousFolds(folds, layout))
    assert (again == folds).all()
    assert same_layout == layout


@settings(max_examples=40)
@given(n_folds=st.integers(2, MAX_FOLDS), per_fold=st.integers(1, 6), n_classes=st.integers(1, 4))
def test_any_number_of_folds_is_filled_evenly(n_folds, per_fold, n_classes):
    labels = np.tile(np.arange(n_classes), n_folds * per_fold)
    folds = assign_folds(labels, np.arange(len(labels)), np.full(len(labels), -1), n_folds)
    counts = np.array([np.bincount(folds[labels == c], minlength=n_folds) for c in range(n_classes)])
    assert (counts == per_fold).all()


def test_without_splits_and_folds_there_are_five():
    folds, layout = resolve(rows_of([2] * 7))
    assert layout == DEFAULT_LAYOUT
    assert set(folds) == set(range(5))


def test_official_splits_get_the_folds_after_those_of_the_training_part():
    rows = rows_of([2] * 6, "train") + rows_of([3] * 2, "test") + rows_of([1], "validation")
    folds, layout = resolve(rows)
    assert layout == FoldLayout(training=[0, 1, 2, 3, 4], validation=5, test=6)
    assert folds[12:].tolist() == [6] * 6 + [5]
    assert max(folds[:12]) == 4


def test_a_training_part_of_few_groups_has_as_many_folds_as_groups():
    folds, layout = resolve(rows_of([4, 4, 4], "train") + rows_of([2], "test"))
    assert layout == FoldLayout(training=[0, 1, 2], test=3)
    assert len(set(folds[:12])) == 3
    assert resolve(rows_of([4], "train") + rows_of([2], "test"))[1] == FoldLayout(training=[0], test=1)


def test_a_partly_given_group_follows_most_of_its_given_tracks():
    rows = rows_of([2] * 4, fold=0) + rows_of([2] * 4, fold=7)
    rows += [("x", 0, None, 3), ("x", 0, None, 3), ("x", 1, None, 5), ("x", 1, None, None)]
    folds, layout = resolve(rows)
    assert folds[-4:].tolist() == [3, 3, 5, 3]
    assert layout.training == [0, 3, 5, 7]


def test_groups_without_a_given_fold_fill_the_folds_that_others_leave_empty():
    rows = rows_of([2] * 2, fold=0) + [(f"new {n}", n % 2, None, None) for n in range(6)] + rows_of([2], fold=2)
    folds, layout = resolve(rows)
    assert layout.training == [0, 1, 2]
    assert 1 in folds[4:10]


def test_a_fold_number_that_only_the_test_split_has_is_no_training_fold():
    rows = rows_of([2] * 3, "train", 1) + rows_of([2] * 3, "train", 2) + rows_of([2] * 2, "test", 0)
    folds, layout = resolve(rows)
    assert layout == FoldLayout(training=[1, 2], test=3)
    assert folds[-4:].tolist() == [3] * 4
    assert resolve([*rows, ("new", 0, None, None)])[1].training == [1, 2]


def test_a_new_split_takes_tracks_out_of_the_folds_and_keeps_its_number_later():
    rows = rows_of([2] * 8)
    folds, layout = resolve(rows)
    with_test = [(*row[:2], "test" if n < 4 else "train", None) for n, row in enumerate(rows)]
    then, with_split = resolve(with_test, PreviousFolds(folds, layout))
    assert with_split.test == 5
    assert then[:4].tolist() == [5] * 4
    assert (then[4:] == folds[4:]).all()
    both = [(*row[:2], "validation" if n in (4, 5) else row[2], None) for n, row in enumerate(with_test)]
    last, layout = resolve(both, PreviousFolds(then, with_split))
    assert (layout.test, layout.validation) == (5, 6)
    assert (last[:4] == 5).all()
    assert (last[6:] == then[6:]).all()
    # Without the split, its tracks are dealt again, and the others stay.
    back, layout = resolve(rows, PreviousFolds(last, layout))
    assert layout.official == {}
    assert (back[6:] == last[6:]).all()
    assert set(back) <= set(layout.training)


@pytest.mark.parametrize(
    ("grouping", "advice"),
    [
        ("artist", "--set featurize.group_by=none makes each track its own group"),
        ("table", "leave its group column out and type --set featurize.group_by=none"),
        ("none", "Add tracks to the collection"),
    ],
)
def test_fewer_groups_than_folds_are_an_error_with_advice_that_works(grouping, advice):
    with pytest.raises(FeaturizeError, match=f"at least 5 groups.*found 3: a, b, c.*{advice}"):
        resolve(rows_of([5, 5, 5]), grouping=grouping)


def test_a_single_fold_needs_a_test_split():
    with pytest.raises(FeaturizeError, match="at least 2 folds, found 1: 3 is the only fold"):
        resolve(rows_of([2] * 5, fold=3))
    assert resolve(rows_of([2] * 5, fold=3) + rows_of([1], "test"))[1].training == [3]


def catalog_of(rows, tmp_path):
    """Return a catalog of (group, label, split, fold) rows."""
    columns = [
        pa.array([f"{n:03}.wav" for n in range(len(rows))]),
        pa.nulls(len(rows), pa.binary()),
        pa.array([f"class {label}" for _, label, _, _ in rows]).dictionary_encode(),
        *(pa.array([row[i] for row in rows], kind) for i, kind in ((0, pa.string()), (3, pa.int32()))),
        pa.array([row[2] for row in rows], pa.string()),
        pa.array([7] * len(rows), pa.int64()),
    ]
    return Catalog(StoragePath.of(tmp_path), pa.table(columns, schema=CATALOG_SCHEMA))


def plan_of(rows, tmp_path, previous=None):
    catalog, config = catalog_of(rows, tmp_path), FeaturizeConfig(tracks_per_shard=4)
    return make_plan(catalog, config, previous, known_groups(catalog, config, previous))


def test_a_plan_without_a_split_is_stored_as_before_and_one_with_it_is_read_back(tmp_path):
    plan = plan_of(rows_of([2] * 6), tmp_path)
    plan.save(StoragePath.of(tmp_path))
    stored = read_plan(StoragePath.of(tmp_path))
    assert json.loads(stored.tracks.schema.metadata[PLAN_KEY]).keys() == {
        "format", "settings", "classes", "grouping"
    }  # fmt: skip
    assert stored.layout == DEFAULT_LAYOUT
    assert plan.remarks == ()
    plan = plan_of(rows_of([2] * 6, "train") + rows_of([3], "test"), tmp_path, stored)
    plan.save(StoragePath.of(tmp_path))
    assert read_plan(StoragePath.of(tmp_path)).layout == plan.layout == FoldLayout(
        training=[0, 1, 2, 3, 4], test=5
    )  # fmt: skip
    assert {name.split("/")[0] for name in plan.names} == {f"fold={k}" for k in range(6)}


def test_the_plan_remarks_on_the_split_and_on_groups_that_it_divides(tmp_path):
    rows = rows_of([2] * 6, "train") + rows_of([3, 1], "test", 4)
    split, divided, ignored = plan_of(rows, tmp_path).remarks
    assert split == (
        "The collection has an official split: 12 tracks to train, 4 tracks to test. Training uses the first "
        "part only."
    )
    assert divided.startswith("2 groups are in more than one part of the official split")
    assert ": a, b. The scores may be too good" in divided
    assert ignored.startswith("4 tracks of the official split have a fold as well")
    [by_fold] = plan_of([*rows_of([4] * 5, fold=0), *rows_of([2] * 7, fold=1)], tmp_path).remarks
    assert by_fold.startswith("5 groups are in more than one fold, as the fold column says")


def test_a_plan_says_that_the_split_of_an_earlier_plan_has_changed(tmp_path):
    folder = StoragePath.of(tmp_path)
    rows = rows_of([2] * 8)
    plan_of(rows, tmp_path).save(folder)
    with_test = [(*row[:2], "test" if n < 4 else None, None) for n, row in enumerate(rows)]
    plan = plan_of(with_test, tmp_path, read_plan(folder))
    assert "The official split has changed: it moved 4 tracks of an earlier run, which are now held out." in (
        plan.remarks
    )
    plan.save(folder)
    [back] = plan_of(rows, tmp_path, read_plan(folder)).remarks
    assert back == "4 tracks are no longer in an official split, and have been assigned to folds."


@pytest.mark.parametrize("fold", [5, 21, 22])
def test_a_stored_plan_with_a_fold_that_it_does_not_have_is_not_used(fold, tmp_path):
    folder = StoragePath.of(tmp_path)
    plan = plan_of(rows_of([2] * 6), tmp_path)
    names = [name.replace("fold=0", f"fold={fold}") for name in plan.names]
    numbers = np.where(plan.tracks["fold"].to_numpy() == 0, fold, plan.tracks["fold"].to_numpy())
    tracks = plan.tracks.set_column(4, "fold", pa.array(numbers, pa.int32()))
    type(plan)(**{**vars(plan), "names": names, "tracks": tracks}).save(folder)
    assert read_plan(folder) is None


def test_names_of_shards_with_impossible_folds_are_ignored_when_a_plan_is_rebuilt(tmp_path):
    catalog = catalog_of(rows_of([2] * 6), tmp_path)
    groups = known_groups(catalog, FeaturizeConfig(), None)
    settings_here = plan_of(rows_of([2] * 6), tmp_path).settings
    name = "fold=99/part-00000-0123456789abcdef.parquet"
    assert recover_plan(StoragePath.of(tmp_path), {name}, catalog, groups, settings_here) is None


def table(tmp_path, rows):
    path = tmp_path / "tracks.csv"
    lines = [f"{n}.wav,{label},{split or ''},{'' if fold is None else fold}"
             for n, (label, split, fold) in enumerate(rows)]  # fmt: skip
    path.write_text("\n".join(["path,label,split,fold", *lines]) + "\n")
    for n in range(len(rows)):
        (tmp_path / f"{n}.wav").write_bytes(b"x")
    return str(path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [("a", "train", None), ("b", "train", None), ("c", "test", None), ("d", "validation", None)],
            r"has no track to train 2 of its 4 classes on, only tracks to validate or test: c: 1, d: 1\. Move",
        ),
        (
            [(f"artist {n}", None, None) for n in range(120)],
            r"at least 5 tracks in a class, one for each fold; found at most 1 in each of 120 classes "
            r"\(artist 0: 1, .* and 110 more\)\. Add",
        ),
        (
            [(label, None, n % 3) for n, label in enumerate("abc")],
            r"at least 2 tracks in a class, one to train on and one to test; found a: 1, b: 1, c: 1\.",
        ),
    ],
)
def test_classes_that_cannot_be_learned_are_one_sentence(rows, message, tmp_path):
    with pytest.raises(FeaturizeError, match=message) as caught:
        build_catalog(table(tmp_path, rows))
    assert len(str(caught.value)) < 500


def test_given_folds_and_a_test_split_need_no_five_tracks_in_a_class(tmp_path):
    rows = [(label, None, fold) for label in "ab" for fold in range(3)]
    assert len(build_catalog(table(tmp_path, rows)).tracks) == 6
    rows = [(label, split, None) for label in "ab" for split in ("train", "test")]
    assert len(build_catalog(table(tmp_path, rows)).tracks) == 4
