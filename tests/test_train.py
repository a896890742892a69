"""Training: outputs of a run, settings, refused datasets, evaluation and the order of batches."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.training import QUICK, trained

from featurize.dataset.dataset import open_dataset
from train.config import TrainConfig
from train.errors import TrainError
from train.run import ORDER, Run

pytestmark = pytest.mark.usefixtures("logical_cpus")


def weights(folder):
    import keras

    return keras.models.load_model(folder / "model.keras").get_weights()


@pytest.fixture(scope="module")
def run(features, logical_cpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    trained(features, folder)
    return folder


def test_a_finished_run_is_not_repeated_and_can_be_extended(features, run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    before = (folder / "model.keras").stat().st_mtime_ns
    assert trained(features, folder)[1] == []
    assert (folder / "model.keras").stat().st_mtime_ns == before
    _, epochs = trained(features, folder, epochs=3)
    assert [entry.epoch for entry in epochs] == [3]
    with pytest.raises(
        TrainError,
        match=r"trained for 3 epochs already, but train\.epochs = 2\. Type --set train\.epochs=3 or more",
    ):
        trained(features, folder)


def test_a_run_with_another_config_or_dataset_is_refused(features, run, tmp_path):
    with pytest.raises(TrainError, match=r"(?s)train\.batch_size: 16 there, 8 now.*Give another --out"):
        trained(features, run, batch_size=8)
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "dataset": "0123456789abcdef"}))
    with pytest.raises(TrainError, match="dataset: 0123456789abcdef there"):
        trained(features, folder)


def test_a_run_of_a_version_with_another_order_of_segments_is_kept_and_not_continued(features, run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    record = json.loads((folder / "run.json").read_text())
    assert record.pop("order") == ORDER  # versions before the lanes did not record it
    (folder / "run.json").write_text(json.dumps(record))
    assert trained(features, folder)[1] == []
    with pytest.raises(
        TrainError, match=r"was trained to step \d+ by an earlier version of Earmark.*another --out"
    ):
        trained(features, folder, epochs=3)
    shutil.rmtree(folder / "checkpoints")
    (folder / "history.json").unlink()
    assert len(trained(features, folder)[1]) == 2  # nothing was left of the earlier training


def test_as_many_checkpoints_are_kept_as_configured(features, tmp_path):
    trained(features, tmp_path, epochs=5, checkpoint_every="2 epochs", keep_checkpoints=2)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").glob("step-*"))
    assert [name.split("-epochs-")[1] for name in kept] == ["4", "5"]
    assert len(list((tmp_path / "checkpoints" / "best").iterdir())) == 1
    best = max(Run(tmp_path).history(), key=lambda e: (e.validation.track_macro_f1, -e.validation.loss))
    assert Run(tmp_path).trained().epoch == best.epoch


def test_without_a_validation_fold_training_uses_four_folds_and_keeps_the_last_epoch(features, tmp_path):
    messages, epochs = trained(features, tmp_path, validation_fold="none")
    assert any(" 96 segments" in message for message in messages)
    assert all(entry.validation is None and "validation" not in entry.to_json() for entry in epochs)
    assert Run(tmp_path).trained().epoch == 2
    assert not (tmp_path / "checkpoints" / "best").exists()


def test_tensorboard_has_graph_scalars_images_and_histograms(run):
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulators = {}
    assert {path.name for path in (run / "tensorboard").iterdir()} == {"train", "validation"}
    for part in ("train", "validation"):
        accumulators[part] = EventAccumulator(
            str(run / "tensorboard" / part), size_guidance={"tensors": 0}
        ).Reload()
    tags = accumulators["train"].Tags()
    assert tags["graph"]
    assert {"loss", "accuracy", "learning_rate", "examples_per_second"} <= set(tags["tensors"])
    assert {f"mfcc/{name}" for name in ("bells", "reeds", "pulses")} <= set(tags["tensors"])
    histograms = {"unit_activations/dense", "unit_activations/logits", "weights/dense/kernel"}
    assert {*histograms, "config"} <= set(tags["tensors"])
    # TensorBoard sorts the cards by tag: the curves come before the many histograms.
    assert max("loss", "track_accuracy", "track_macro_f1") < min(histograms)
    images = accumulators["validation"].Tensors("confusion/tracks")
    assert [image.step for image in images] == [1, 2]
    drawn = tf.io.decode_png(tf.make_ndarray(images[0].tensor_proto)[2]).numpy()
    assert drawn.shape == (600, 600, 3)
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 10
    history = Run(run).history()
    for part in accumulators:
        for name in ("loss", "accuracy"):
            points = accumulators[part].Tensors(name)
            assert [point.step for point in points] == [1, 2]
            values = [float(tf.make_ndarray(point.tensor_proto)) for point in points]
            np.testing.assert_allclose(values, [entry.to_json()[part][name] for entry in history], rtol=1e-6)


def test_metrics_can_be_reproduced_with_keras_and_model_json(features, run):
    import keras

    from train.evaluation.evaluate import evaluate_run
    from train.evaluation.held_out import held_out

    dataset = open_dataset(features)
    metrics = evaluate_run(Run(run), dataset)
    info = json.loads((run / "model.json").read_text())
    assert info["classes"] == ["bells", "pulses", "reeds"]
    assert info["features"]["sample_rate"] == 22050
    stream = held_out(dataset, QUICK, metrics.test_fold).stream
    mfcc, labels = stream.read(0, stream.rows)
    logits = keras.models.load_model(run / "model.keras").predict(mfcc, verbose=0)
    assert metrics.segments.accuracy == np.mean(logits.argmax(axis=1) == labels)
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits)).reshape(-1, 4, 3).mean(axis=1)
    assert metrics.tracks.accuracy == np.mean(probabilities.argmax(axis=1) == labels[::4])
    assert np.sum(metrics.segments.confusion) == len(labels) == metrics.segments.count
    assert metrics.split.groups_on_two_sides == []
    assert {name: part.tracks for name, part in metrics.split.parts.items()} == {
        "train": 18,
        "validation": 6,
        "test": 6,
    }


def test_evaluation_can_be_limited_to_the_first_and_last_segment(features):
    from train.evaluation.held_out import held_out

    dataset = open_dataset(features)
    stream = held_out(dataset, TrainConfig(test_segments="first_last"), 0).stream
    all_segments = held_out(dataset, TrainConfig(), 0).stream
    assert (stream.rows, all_segments.rows) == (12, 24)
    np.testing.assert_array_equal(
        stream.read(0, 12)[0], all_segments.read(0, 24)[0].reshape(6, 4, 40, 217)[:, [0, 3]].reshape(12, 40, 217)
    )


def test_batches_do_not_depend_on_the_first_step_or_the_number_of_replicas(features):
    from train.input.training_stream import training_stream

    dataset = open_dataset(features)
    config = TrainConfig(batch_size=16, shuffle_window=30)
    stream = training_stream(dataset, config)
    steps = 2 * stream.steps_per_epoch
    expected = [training_stream(dataset, config).batch(step) for step in range(steps)]
    for start, replicas in ((0, 1), (3, 1), (5, 3)):
        parts = list(stream.dataset(start, steps, replicas, range(replicas)).as_numpy_iterator())
        assert len(parts) == (steps - start) * replicas
        for i in range(start, steps):
            of_step = parts[(i - start) * replicas : (i - start + 1) * replicas]
            np.testing.assert_array_equal(np.concatenate([p[0] for p in of_step]), expected[i][0])
            np.testing.assert_array_equal(np.concatenate([p[1] for p in of_step]), expected[i][1])
            assert {int(p.step) for p in of_step} == {i}
            assert {int(p.batch_rows) for p in of_step} == {len(expected[i][1])}
            assert [int(p.first) for p in of_step] == np.cumsum(
                [0] + [len(p.labels) for p in of_step[:-1]]
            ).tolist()


def _with_counts(tmp_path: Path, features: Path, keep) -> Path:
    folder = tmp_path / "features"
    shutil.copytree(features, folder)
    info = json.loads((folder / "dataset.json").read_text())
    info["counts"] = [entry for entry in info["counts"] if keep(entry)]
    (folder / "dataset.json").write_text(json.dumps(info))
    return folder


def test_a_class_without_training_tracks_is_refused(features, tmp_path):
    folder = _with_counts(tmp_path, features, lambda e: e["label"] != "reeds" or e["fold"] == 0)
    with pytest.raises(TrainError, match=r"no track to learn reeds from.*Choose another train\.test_fold"):
        trained(folder, tmp_path / "run")


def test_an_empty_test_fold_is_refused(features, tmp_path):
    folder = _with_counts(tmp_path, features, lambda e: e["fold"] != 0)
    with pytest.raises(TrainError, match="no tracks are left for test"):
        trained(folder, tmp_path / "run")


def test_balanced_class_weights_give_every_class_the_same_total():
    from train.input.class_counts import class_weights

    counts = np.array([100, 10, 40])
    np.testing.assert_array_equal(class_weights(counts, TrainConfig()), [1, 1, 1])
    balanced = class_weights(counts, TrainConfig(class_weights="balanced"))
    np.testing.assert_allclose(balanced * counts, counts.sum() / 3)


def test_warnings_for_skewed_classes_name_the_settings_that_balance_them(features, tmp_path):
    from train.input.class_counts import class_warnings

    folder = tmp_path / "features"
    shutil.copytree(features, folder)
    info = json.loads((folder / "dataset.json").read_text())
    for entry in info["counts"]:
        entry["segments"] *= 5 if entry["label"] == "bells" else 1
    (folder / "dataset.json").write_text(json.dumps(info))
    warnings = list(class_warnings(open_dataset(folder), TrainConfig()))
    assert any("5.0 times" in s and "--set train.class_weights=balanced" in s for s in warnings)
    warnings = list(class_warnings(open_dataset(folder), TrainConfig(class_weights="balanced")))
    assert not any("times the segments" in s for s in warnings)
    warnings = list(class_warnings(open_dataset(folder), TrainConfig(sampling="balanced")))
    assert not any("times the segments" in s for s in warnings)
    assert any("Fewer than 20 tracks" in s and "bells (10)" in s for s in warnings)


def test_softmax_subtracts_the_highest_logit_and_computes_in_float64():
    from train.evaluation.metrics import softmax

    for rows, classes, scale in ((0, 3, 1), (1, 1, 1), (64, 3, 5), (7, 30, 0.01), (33, 129, 1000)):
        logits = (scale * np.random.default_rng(classes).normal(size=(rows, classes))).astype(np.float32)
        shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
        probabilities = softmax(logits)
        assert probabilities.dtype == np.float64
        assert probabilities.tobytes() == (shifted / shifted.sum(axis=1, keepdims=True)).tobytes()


def test_scores_of_segments_and_tracks_match_their_definitions():
    from train.evaluation.totals import FoldTotals

    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1], np.int32)
    hits = np.array([0.9, 0.8, 0.4, 0.4, 0.3, 0.3, 0.9, 0.2])
    probabilities = np.where(labels[:, None] == [0, 1, 2], hits[:, None], (1 - hits[:, None]) / 2)
    totals = FoldTotals(classes=3, per_track=2, lanes=1)
    totals.add(0, probabilities[:3], labels[:3])  # a batch may end inside a track
    totals.add(0, probabilities[3:], labels[3:])
    segments, tracks = totals.scores(["a", "b", "c"])
    assert segments.count == 8
    assert segments.accuracy == 5 / 8
    assert segments.confusion == [[4, 0, 0], [3, 1, 0], [0, 0, 0]]
    assert segments.per_class[2].to_json() == {
        "label": "c",
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "count": 0,
    }
    f1_a, f1_b = 2 * 4 / (2 * 4 + 3), 2 * 1 / (2 * 1 + 3)
    assert segments.macro_f1 == pytest.approx((f1_a + f1_b) / 2)
    assert segments.loss == pytest.approx(-np.log(hits).mean())
    assert tracks.count == 4
    assert tracks.accuracy == 3 / 4


def test_no_window_is_read_twice(features, monkeypatch):
    """Batches are read in parallel, so the window of a late one must still be in memory."""
    from featurize.dataset.row_group_reader import RowGroupReader
    from train.input.training_stream import training_stream

    read, real = [], RowGroupReader.read
    monkeypatch.setattr(
        RowGroupReader, "read", lambda reader, groups: read.append(len(groups)) or real(reader, groups)
    )
    stream = training_stream(open_dataset(features), TrainConfig(batch_size=4, shuffle_window=24))
    epochs = 6
    for _ in stream.dataset(0, epochs * stream.steps_per_epoch, 1, [0]):
        pass
    windows = stream._cache._sampler.lane_plan(0, 0).windows
    assert windows == 5
    assert len(read) in (epochs * windows, epochs * windows + 1)  # and perhaps the first of the epoch after


def test_the_speed_by_steps_counts_the_segments_of_batches_that_are_not_full_or_larger(features, tmp_path):
    """Four batches of 14 segments and one of 16; a batch larger than the collection is such a case, too."""
    import tensorflow as tf
    from support.training import trained
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained(features, tmp_path, batch_size=14, epochs=10, evaluate_every=10)
    [point] = (
        EventAccumulator(str(tmp_path / "tensorboard" / "train")).Reload().Tensors("steps/examples_per_second")
    )
    seconds = sum(epoch.seconds for epoch in Run(tmp_path).history())
    assert point.step == 50
    assert float(tf.make_ndarray(point.tensor_proto)) == pytest.approx(10 * 72 / seconds, rel=1e-3)
