"""The signature `samples` of a SavedModel: the features and predictions of the featurizer, from samples."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.default_features import SAMPLE_RATE, SEGMENT_SAMPLES, SETTINGS
from support.export import TOLERANCE, TOLERANCE_DB, differences, export, write_wav

from featurize.audio.filters import Filters
from featurize.audio.load import LOUDEST_PEAK, SILENT_PEAK, load
from featurize.audio.mfcc import AMIN, segment_features, segment_starts
from featurize.dataset.dataset import open_dataset
from featurize.dataset_build.worker import featurize_track
from featurize.storage import StoragePath
from train.evaluation.metrics import softmax
from train.export.tf_mfcc import MfccConstants, TrackMfcc

pytestmark = pytest.mark.usefixtures("logical_cpus")


@pytest.fixture(scope="module")
def filters():
    return Filters.from_librosa(SETTINGS)


@pytest.fixture(scope="module")
def predict_samples(export_run, tmp_path_factory):
    """The signature `samples`, as a function from an array to arrays."""
    out = tmp_path_factory.mktemp("samples") / "model"
    export(export_run, "savedmodel", out)
    model = tf.saved_model.load(out)
    return lambda samples: {
        name: value.numpy()
        for name, value in model.signatures["samples"](samples=tf.constant(samples, tf.float32)).items()
    }


def test_predictions_from_samples_equal_those_from_the_file(predict_samples, export_run, features, music, filters):
    settings = open_dataset(features).info.settings
    path = StoragePath.of(music / "pulses" / "deeper" / "1-1.flac")
    mfcc, starts = featurize_track(path, settings, filters)
    outputs = predict_samples(load(path, settings))
    np.testing.assert_allclose(outputs["mfcc"], mfcc, rtol=0, atol=TOLERANCE_DB)
    np.testing.assert_array_equal(outputs["start"], starts)
    logits = np.asarray(keras.models.load_model(export_run / "model.keras", compile=False)(outputs["mfcc"]))
    np.testing.assert_allclose(outputs["segment_logits"], logits, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(outputs["segment_probabilities"], softmax(logits), rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(outputs["probabilities"], softmax(logits).mean(axis=0), rtol=0, atol=TOLERANCE)
    assert [name.decode() for name in outputs["classes"]] == ["bells", "pulses", "reeds"]


def _signals():
    rng = np.random.default_rng(3)
    t = np.arange(8 * SAMPLE_RATE) / SAMPLE_RATE
    noise, tone = rng.standard_normal(len(t)), np.sin(2 * np.pi * 440 * t)
    return {
        "noise": noise / 4,
        "tone": tone,
        "high tone": np.sin(2 * np.pi * 10900 * t),
        "chirp": np.sin(2 * np.pi * (20 + 680 * t) * t),
        "clipped": np.clip(5 * noise, -1, 1),
        "quiet": 1e-3 * noise,
        "barely audible": 1e-5 * noise,
        "loud and quiet": tone * np.where(t < 4, 1, 1e-4),
        "very loud": 1e6 * noise,
        "silent except for the middle": np.where((t > 3) & (t < 5), tone, 0),
        "one click": np.arange(len(t)) == len(t) // 2,
        "constant": np.ones(len(t)),
        "as short as possible": noise[:SEGMENT_SAMPLES],
        "slightly longer": tone[: SEGMENT_SAMPLES + 700],
    }


@pytest.mark.parametrize("name", _signals())
def test_the_mfcc_of_the_graph_equal_those_of_the_featurizer(predict_samples, filters, name):
    samples = _signals()[name].astype(np.float32)
    settings = SETTINGS.model_copy(update={"segments_per_track": 4})
    starts = segment_starts(len(samples), settings)
    expected = segment_features(samples, starts, filters, settings)
    outputs = predict_samples(samples)
    np.testing.assert_allclose(outputs["mfcc"], expected, rtol=0, atol=TOLERANCE_DB)
    np.testing.assert_array_equal(outputs["start"], starts / SAMPLE_RATE)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.ones(SEGMENT_SAMPLES - 1), "one segment needs 110592 of them"),
        (np.ones(0), "one segment needs 110592 of them"),
        (np.zeros(SEGMENT_SAMPLES), "expected a peak from 1e-05 to 1e[+]15 of full scale, found"),
        (np.full(SEGMENT_SAMPLES, 1e16), "expected a peak from 1e-05 to 1e[+]15 of full scale, found"),
        (np.where(np.arange(SEGMENT_SAMPLES) == 7, np.nan, 0.1), "some of them are not finite"),
        (np.where(np.arange(SEGMENT_SAMPLES) == 7, np.inf, 0.1), "some of them are not finite"),
    ],
    ids=["short", "empty", "silent", "loud", "nan", "infinite"],
)
def test_samples_that_the_featurizer_rejects_are_refused(predict_samples, samples, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        predict_samples(samples)


@pytest.mark.parametrize("position", ["start", "middle"])
@pytest.mark.parametrize("seconds", [5.5, 7.3, 60.0])
def test_the_graph_uses_the_excerpt_of_the_featurizer(features, filters, position, seconds, tmp_path):
    settings = open_dataset(features).info.settings
    update = {"excerpt_seconds": seconds, "excerpt_position": position, "segments_per_track": 3}
    settings = settings.model_copy(update=update)
    write_wav(tmp_path / "track.wav", np.random.default_rng(4).uniform(-1, 1, 8 * SAMPLE_RATE + 333))
    mfcc, starts = featurize_track(StoragePath.of(tmp_path / "track.wav"), settings, filters)
    samples = load(StoragePath.of(tmp_path / "track.wav"), settings.model_copy(update={"excerpt_seconds": None}))
    mel = filters.mel.toarray()
    graph = TrackMfcc(settings, MfccConstants(filters.window, mel, AMIN, (SILENT_PEAK, LOUDEST_PEAK)))
    found, found_starts = tf.function(graph, input_signature=[tf.TensorSpec([None], tf.float32)])(samples)
    np.testing.assert_allclose(found, mfcc, rtol=0, atol=TOLERANCE_DB)
    np.testing.assert_array_equal(found_starts, starts)


def test_a_model_of_excerpts_is_checked_on_a_longer_track(export_run, features, tmp_path):
    """The synthetic track is longer than the excerpt, so that the check covers the excerpt."""
    shutil.copytree(export_run, tmp_path / "run")
    about = json.loads((export_run / "model.json").read_text())
    about["features"] |= {"excerpt_seconds": 6.0, "excerpt_position": "middle", "segments_per_track": 2}
    (tmp_path / "run" / "model.json").write_text(json.dumps(about))
    printed = export(tmp_path / "run", "savedmodel", tmp_path / "model", StoragePath.of(features))
    assert "checked   the samples of a track of 2 segments: " in printed
    assert differences(printed)["mfcc dB"] <= TOLERANCE_DB
    outputs = tf.saved_model.load(tmp_path / "model").signatures["samples"](samples=tf.sin(tf.range(2e5) / 9))
    assert outputs["start"].numpy().tolist() == [0, int((6 * 22050 - SEGMENT_SAMPLES) / 512) * 512 / 22050]
