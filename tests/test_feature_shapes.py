"""Features of another kind and shape, stored as float16, pass through every step: dataset, training, results."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.default_features import FORMAT, SHAPE
from support.librosa_reference import librosa_features
from support.training import trained

from featurize.audio.load import load
from featurize.config import FeaturizeConfig
from featurize.dataset.dataset import open_dataset
from featurize.dataset.footer import parse_footer
from featurize.dataset.reader import read_row_group, read_segments, read_track_ids
from featurize.dataset.row_group_reader import RowGroupReader
from featurize.dataset.schema import SegmentFormat
from featurize.dataset_build.driver import featurize
from featurize.dataset_build.verify import verify
from featurize.storage import StoragePath
from jobs.config import JobConfig
from jobs.inference.export import export_model
from jobs.inference.predict import predict
from jobs.pipeline import run as run_pipeline
from jobs.terminal.console import ConsoleReporter
from train.config import TrainConfig
from train.errors import TrainError
from train.evaluation.evaluate import evaluate_run
from train.evaluation.inference import load_model
from train.evaluation.svm_baseline import describe_shard, shards_to_describe
from train.export.formats import ExportFormat
from train.model_names import MODELS
from train.report.run_page import write_run_page
from train.run import Run
from train.segment_size import refuse_unfit

CONFIG = FeaturizeConfig(
    kind="log_mel",
    sample_rate=16000,
    n_fft=1024,
    n_mels=24,
    f_min=40,
    deltas=1,
    segment_frames=64,
    segments_per_track=4,
    tracks_per_shard=5,
    store="float16",
)


@pytest.fixture(scope="module")
def log_mel(music, ray_here, tmp_path_factory):
    folder = tmp_path_factory.mktemp("log-mel")
    featurize(str(music), folder, CONFIG)
    return folder


@pytest.fixture(scope="module")
def run(log_mel, logical_cpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    settings = {"model": "conv2", "normalize": True, "epochs": 1, "mask_frames": 30, "mask_coefficients": 40}
    trained(log_mel, folder, **settings)
    return Run(folder)


def test_rows_are_librosas_rounded_to_float16(log_mel, music):
    dataset = open_dataset(log_mel)
    settings = dataset.info.settings
    assert settings.shape == (48, 64)
    shard = dataset.shards[0]
    rows, _ = read_row_group(shard, 0)
    starts = read_segments([shard])["start"].to_numpy()[:4]
    samples = load(StoragePath.of(music / read_track_ids(shard, 4)[0]), settings)
    expected = librosa_features(samples, np.round(starts * 16000).astype(int), settings)
    # Half the distance of two float16 is 2**-12 of the value: 0.016 dB of 64.
    np.testing.assert_allclose(rows[:4], expected, rtol=2**-11, atol=2e-3)
    assert rows.dtype == np.float32
    assert (rows == rows.astype(np.float16)).all()
    [(stored, _)] = RowGroupReader().read([(shard, 0)])
    assert stored.dtype == np.float16
    np.testing.assert_array_equal(stored, rows)
    assert not [problems for _, problems in verify(dataset) if problems]


def test_the_shards_state_what_they_hold(log_mel):
    path = open_dataset(log_mel).shards[0].path.path
    field = pq.read_schema(path).field("log_mel")
    assert field.type.byte_width == 2 * 48 * 64
    assert field.metadata == {
        b"dtype": b"<f2",
        b"shape": b"[48, 64]",
        b"axes": b'["mel band", "frame"]',
        b"deltas": b"1",
    }
    footer = parse_footer(pq.read_metadata(path))
    assert footer.settings["kind"] == "log_mel"
    assert len(footer.statistics.sum) == 48


def test_rows_that_are_copied_stay_the_same(log_mel, music, ray_here, tmp_path):
    """A new arrangement of tracks copies rows, which are rounded already."""
    import shutil

    shutil.copytree(log_mel, tmp_path / "features")
    featurize(str(music), tmp_path / "features", CONFIG.model_copy(update={"tracks_per_shard": 3}))
    again, before = open_dataset(tmp_path / "features"), open_dataset(log_mel)
    assert [entry.mean for entry in again.info.statistics] == [entry.mean for entry in before.info.statistics]
    assert not [problems for _, problems in verify(again) if problems]


def test_the_model_has_the_shape_of_the_dataset(run):
    about = json.loads((run.folder / "model.json").read())
    assert about["input"].startswith("float32 [batch, 48, 64], log-mel spectrogram in dB, then its derivative")
    assert load_model(run).input_shape == (None, 48, 64)


def test_predictions_equal_the_evaluation(run, log_mel, music):
    dataset = open_dataset(log_mel)
    metrics = evaluate_run(run, dataset)
    tracks = [row["track"] for row in dataset.tracks().to_pylist() if row["fold"] == metrics.test_fold]
    results = predict(run.folder, [str(music / track) for track in tracks], None, ConsoleReporter())
    assert len(results.tracks) == metrics.tracks.count
    assert results.tracks[0].segments.shape == (4, 3)
    write_run_page(run, dataset)
    page = run.report.read().decode()
    assert "log-mel spectrogram of one segment" in page
    assert "2.02-second piece" in page


@pytest.mark.parametrize("form", ["keras", "savedmodel", "tflite"])
def test_exports_have_the_shape_of_the_dataset(form, run, tmp_path):
    out = tmp_path / ("model" + ExportFormat(form).suffix)
    printed = export_model(run.folder, None, ExportFormat(form), str(out))
    if form == "savedmodel":
        import tensorflow as tf

        signatures = tf.saved_model.load(out).signatures
        assert {"log_mel", "samples"} <= set(signatures)
        outputs = signatures["samples"](samples=tf.sin(tf.range(5e4) / 9))
        assert outputs["log_mel"].shape == (4, 48, 64)
        assert "dB in log_mel" in printed
        assert '"log_mel": "float32 [segments, 48, 64]' in (out / "assets.extra" / "earmark.json").read_text()


def test_the_svm_has_two_numbers_a_feature(log_mel):
    vectors, *_ = describe_shard(*shards_to_describe(open_dataset(log_mel))[0])
    assert vectors.shape[1] == 2 * 48


@pytest.mark.parametrize("name", MODELS)
def test_the_smallest_segment_of_a_network_is_known(name):
    """With one feature or frame less, Keras would fail with an error about negative dimensions."""
    from train.model.architectures import build_model

    smallest = MODELS[name].smallest
    refuse_unfit(smallest, TrainConfig(model=name))
    assert build_model(name, SegmentFormat("mfcc", smallest), 3, 0.4).output_shape == (None, 3)
    for axis in (0, 1):
        smaller = tuple(size - (i == axis) for i, size in enumerate(smallest))
        if 0 in smaller:
            continue
        with pytest.raises(TrainError, match=f"train.model = {name} needs segments of"):
            refuse_unfit(smaller, TrainConfig(model=name))
        if name != "modulation":
            with pytest.raises(ValueError, match=r"."):
                build_model(name, SegmentFormat("mfcc", smaller), 3, 0.4)


def test_what_does_not_fit_is_refused_all_at_once_and_before_featurizing(tmp_path):
    config = JobConfig(
        featurize=FeaturizeConfig(n_mfcc=13), train=TrainConfig(mask_frames=217, mask_coefficients=13)
    )
    with pytest.raises(TrainError) as caught:
        run_pipeline("nothing", StoragePath.of(tmp_path / "out"), config, None, ConsoleReporter())
    assert str(caught.value) == (
        "segments of 13 features x 217 frames do not fit the settings:\n"
        "  - train.model = conv3-norm needs segments of 36 x 36 or more; set modulation\n"
        "  - train.mask_frames = 217 must be less than the 217 frames\n"
        "  - train.mask_coefficients = 13 must be less than the 13 features"
    )
    assert not (tmp_path / "out").exists()


def test_float16_keeps_three_digits():
    features = np.random.default_rng(0).uniform(-1131, 300, (2, *SHAPE)).astype(np.float32)
    half = SegmentFormat(FORMAT.column, SHAPE, store="float16")
    read = half.array(half.column_of(features))
    np.testing.assert_array_equal(read, half.rounded(features))
    np.testing.assert_allclose(read, features, rtol=2**-11)
    assert FORMAT.rounded(features) is features
    assert half.row_bytes == FORMAT.row_bytes // 2
