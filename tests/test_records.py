"""The JSON files of a run: unchanged keys, order and bytes, and an error with advice for a broken file."""

import json

import pytest

from train.config import TrainConfig
from train.errors import TrainError
from train.fit.train_state import TrainState
from train.records import EpochRecord, ModelInfo, RunInfo
from train.run import Run
from train.score_records import Metrics
from train.summary_records import CrossValidationSummary

SCORES = {
    "count": 2,
    "accuracy": 0.5,
    "macro_f1": 1 / 3,
    "per_class": [
        {"label": "a", "precision": 0.5, "recall": 1.0, "f1": 2 / 3, "count": 1},
        {"label": "ü", "precision": 0.0, "recall": 0.0, "f1": 0.0, "count": 1},
    ],
    "confusion": [[1, 0], [1, 0]],
    "loss": 0.7,
}
FIGURES = {"loss": 0.8, "accuracy": 0.25, "track_accuracy": 0.5, "track_macro_f1": 0.1}
EPOCH = {
    "epoch": 1,
    "train": {"loss": 1.27208012342453, "accuracy": 0.321},
    "learning_rate": 9.999999747378752e-05,
    "seconds": 2.5,
    "examples_per_second": 527.5,
    "wait_fraction": 0.03,
    "test": FIGURES,
}
VALIDATED = {
    **{key: value for key, value in EPOCH.items() if key != "test"},
    "validation": FIGURES,
    "test": FIGURES,
}
INTERVALS = {"groups": 3, "accuracy": [0.2, 0.8], "macro_f1": [0.1, 0.9], "f1": [[0.0, 1.0], None]}
PARTS = {part: {"accuracy": 0.5, "macro_f1": 0.25} for part in ("tracks", "segments", "svm_tracks")}
FILES = {
    "metrics.json": {
        "model": "conv3-norm",
        "epoch": 2,
        "test_fold": 0,
        "classes": ["a", "ü"],
        "segments": SCORES,
        "tracks": SCORES,
        "copies_left_out": 0,
        "split": {"parts": {"train": {"folds": [1, 2], "tracks": 3, "groups": 2}}, "groups_on_two_sides": []},
        "judged": "5f",
        "intervals": {"tracks": INTERVALS, "segments": None},
        "calibration": {"count": [0, 2], "confidence": [0.0, 0.9], "accuracy": [0.0, 0.5], "error": 0.4},
    },
    "history.json": [VALIDATED, {**VALIDATED, "epoch": 2}],
    "model.json": {
        "classes": ["a", "ü"],
        "features": {"sample_rate": 22050, "top_db": 80.0, "excerpt_seconds": None},
        "input": "float32",
        "output": "float32",
        "parameters": 639479,
        "epoch": 2,
        "epochs": 3,
        "dataset": "eb7d",
        "temperature": 1.5,
        "members": 5,
    },
    "run.json": {
        "dataset": "eb7d",
        "features": "features",
        "train": TrainConfig(patience=None).model_dump(),
        "order": 2,
        "model_code": {"file": "networks.py", "function": "build", "sha256": "ab" * 32},
        "initial": {"run": "other", "sha256": "cd" * 32, "classes": ["a"], "taken": [], "not_taken": {}},
        "started": {
            "date": "2026-11-26T12:00:00Z",
            "command": ["train", "--out", "~/run", "--", "features"],
            "versions": {"earmark": "0.1.0", "python": "3.11.7"},
            "revision": "ab" * 20,
            "host": {"system": "Debian GNU/Linux 12", "machine": "x86_64", "cores": 2},
            "device": {"kind": "CPU", "count": 2},
        },
        "resumed": [{"date": "2026-11-27T12:00:00Z", "versions": {"earmark": "0.1.0"}}],
    },
    "crossval.json": {
        "model": "conv2",
        "classes": ["a", "ü"],
        "folds": [{"fold": 0, "epoch": 2, "count": 4, **PARTS}],
        "mean": PARTS,
        "deviation": PARTS,
        "confusion": {part: [[1, 0], [1, 0]] for part in PARTS},
        "intervals": {"tracks": INTERVALS, "segments": INTERVALS},
        "by_seed": {
            "seeds": [7, 8],
            "runs": [
                {"seed": seed, "fold": 0, "epoch": 2, "tracks": PARTS["tracks"], "segments": PARTS["segments"]}
                for seed in (7, 8)
            ],
            "deviation": {"tracks": PARTS["tracks"], "segments": PARTS["segments"]},
        },
    },
}
READ = {
    "metrics.json": Run.metrics,
    "history.json": Run.history,
    "model.json": Run.model_info,
    "run.json": Run.info,
    "crossval.json": Run.cross_validation,
}
TRAIN_AGAIN = "Train into another folder."
ADVICE = {
    "metrics.json": "Type: earmark evaluate ",
    "history.json": TRAIN_AGAIN,
    "model.json": "Remove it and repeat its run or train command, which restores it from the latest checkpoint.",
    "run.json": TRAIN_AGAIN,
    "crossval.json": "Type the same earmark crossval again; finished folds are kept.",
}


def test_files_of_earlier_versions_lack_the_newer_keys(tmp_path):
    newer = {
        "metrics.json": ("intervals", "calibration"),
        "model.json": ("temperature", "members"),
        "crossval.json": ("intervals", "by_seed"),
    }
    for name, keys in newer.items():
        older = {key: value for key, value in FILES[name].items() if key not in keys}
        (tmp_path / name).write_text(json.dumps(older))
        record = READ[name](Run(tmp_path))
        assert record.to_json() == older
        assert all(getattr(record, key) is None for key in keys)


def without(content, key):
    return {name: value for name, value in content.items() if name != key}


METRICS, MODEL, RUN, CROSSVAL = (FILES[f"{name}.json"] for name in ("metrics", "model", "run", "crossval"))
BROKEN = [
    (
        "metrics.json",
        {**METRICS, "intervals": {"tracks": {**INTERVALS, "f1": [None]}, "segments": None}},
        "the confidence intervals are not those of its classes",
    ),
    (
        "metrics.json",
        {**METRICS, "calibration": {**METRICS["calibration"], "accuracy": []}},
        "calibration: its lists differ in length",
    ),
    *((name, {}, "input should be a valid list" if name == "history.json" else " is missing") for name in FILES),
    *((name, [1], "0: input should be an object, found 1") for name in ("history.json",)),
    *((name, [], "input should be an object, found []") for name in FILES if name != "history.json"),
    *((name, None, "found None") for name in FILES),
    *((name, "text", "found 'text'") for name in FILES),
    ("metrics.json", without(METRICS, "judged"), "judged is missing"),
    ("metrics.json", {**METRICS, "tracks": without(SCORES, "loss")}, "tracks.loss is missing"),
    (
        "metrics.json",
        {**METRICS, "tracks": {**SCORES, "accuracy": "0.5"}},
        "tracks.accuracy: input should be a valid n",
    ),
    ("metrics.json", {**METRICS, "epoch": 1.5}, "epoch: input should be a valid integer, found 1.5"),
    ("history.json", [EPOCH, {**without(EPOCH, "train"), "epoch": 2}], "1.train is missing"),
    ("history.json", [EPOCH, EPOCH], "entry 2 is not epoch 2 of one training"),
    ("history.json", [{**EPOCH, "train": 3}], "0.train: input should be an object, found 3"),
    ("history.json", [{**EPOCH, "seconds": "2"}], "0.seconds: input should be a valid number, found '2'"),
    ("model.json", without(MODEL, "dataset"), "dataset is missing"),
    ("model.json", {**MODEL, "classes": "a"}, "classes: input should be a valid list, found 'a'"),
    ("run.json", without(RUN, "features"), "features is missing"),
    ("run.json", {**RUN, "train": []}, "train: input should be a valid dictionary, found []"),
    ("run.json", {**RUN, "train": {}}, "train: epochs should be a number, found {}"),
    ("run.json", {**RUN, "resumed": [{"date": "now", "versions": {}}]}, "resumed.0.date: string should match"),
    ("crossval.json", without(CROSSVAL, "mean"), "mean is missing"),
    (
        "crossval.json",
        {**CROSSVAL, "folds": [{**CROSSVAL["folds"][0], "fold": "0"}]},
        "folds.0.fold: input should be",
    ),
]


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_and_written_with_the_same_bytes(name, tmp_path):
    """Keys keep their order and names, and absent values add no keys."""
    text = json.dumps(FILES[name], indent=2, ensure_ascii=False) + "\n"
    (tmp_path / name).write_text(text)
    run = Run(tmp_path)
    record = READ[name](run)
    content = [entry.to_json() for entry in record] if name == "history.json" else record.to_json()
    run.write("again.json", content)
    assert (tmp_path / "again.json").read_text() == text


RECORDS = {
    "metrics.json": Metrics,
    "history.json": EpochRecord,
    "model.json": ModelInfo,
    "run.json": RunInfo,
    "crossval.json": CrossValidationSummary,
}


@pytest.mark.parametrize("name", FILES)
def test_a_record_declares_the_keys_of_its_file_in_their_order(name):
    content = FILES[name][1] if name == "history.json" else FILES[name]
    assert [field.alias or key for key, field in RECORDS[name].model_fields.items()] == list(content)


@pytest.mark.parametrize(("name", "content", "problem"), BROKEN)
def test_a_file_with_unexpected_content_is_an_error_with_advice(name, content, problem, tmp_path):
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(TrainError) as caught:
        READ[name](Run(tmp_path))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / name} is not as Earmark writes it: ")
    assert problem in message
    assert ADVICE[name] in message
    assert "\n" not in message


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_json_is_an_error_and_a_missing_one_reads_as_empty(name, tmp_path):
    assert not READ[name](Run(tmp_path))
    (tmp_path / name).write_bytes(b'{"a": \xff')
    with pytest.raises(TrainError) as caught:
        READ[name](Run(tmp_path))
    assert str(caught.value).startswith(f"{tmp_path / name} is not JSON: ")
    assert ADVICE[name] in str(caught.value)


def test_settings_of_another_version_are_an_error_only_when_used(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({**RUN, "train": {"epochs": 3, "momentum": 0.9}}))
    assert Run(tmp_path).info().epochs == 3
    with pytest.raises(
        TrainError, match=r"run\.json is not as Earmark writes it: train\.momentum.*another folder"
    ):
        Run(tmp_path).config()


def test_the_progress_of_a_checkpoint_is_written_as_it_was_read():
    progress = {
        "step": 8,
        "history": [EPOCH, VALIDATED],
        "loss_sum": 0.5,
        "seconds": 1.5,
        "waited": 0.25,
        "right": 7,
    }
    text = json.dumps(progress).encode()
    read = TrainState.from_json(text)
    assert (read.step, read.correct, read.history[1].validation.loss) == (8, 7, 0.8)
    again = json.loads(read.to_json())
    assert again == progress
    assert json.dumps(again["history"]) == json.dumps(progress["history"])
    with pytest.raises(ValueError, match="wait_fraction"):
        TrainState.from_json(json.dumps({**progress, "history": [without(EPOCH, "wait_fraction")]}).encode())


def test_keys_of_another_version_are_kept():
    assert EpochRecord.model_validate({**EPOCH, "memory": 3}).to_json() == {**EPOCH, "memory": 3}
