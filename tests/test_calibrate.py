"""A model that is calibrated after training: its predictions stay, its confidence fits the validation fold."""

import numpy as np
import pytest
from support.training import trained

from featurize.dataset.dataset import open_dataset
from train.config import TrainConfig
from train.evaluation.evaluate import evaluate_run
from train.evaluation.prediction_parts import read_predictions
from train.run import Run

SETTINGS = {"model": "modulation", "epochs": 3, "learning_rate": 1e-3, "batch_size": 16, "validation_fold": "next"}


def predictions(run):
    [part] = read_predictions(run)
    return part


def test_the_logits_are_divided_by_the_temperature(features, logical_cpus, tmp_path):
    dataset, found = open_dataset(features), {}
    for calibrate in (False, True):
        run = Run(tmp_path / str(calibrate))
        trained(features, tmp_path / str(calibrate), calibrate=calibrate, **SETTINGS)
        metrics = evaluate_run(run, dataset)
        assert sum(metrics.calibration.count) == metrics.tracks.count
        found[calibrate] = run.trained().temperature, np.log(predictions(run).probabilities)
    (none, plain), (temperature, calibrated) = found[False], found[True]
    assert none is None
    assert temperature != pytest.approx(1, abs=0.01)
    centered = [part - part.mean(axis=1, keepdims=True) for part in (plain, calibrated)]
    np.testing.assert_allclose(centered[1], centered[0] / temperature, atol=1e-3)


@pytest.mark.parametrize("settings_of_layer", ["[1.0] * classes", "1.0, [0.0] * classes"])
def test_a_last_layer_that_scales_each_class_is_left_as_it_is(settings_of_layer, features, logical_cpus, tmp_path):
    file = tmp_path / "nets.py"
    file.write_text(
        f"""
import keras

def build(input_shape, classes, config):
    logits = keras.layers.Dense(classes)(keras.layers.Flatten()(inputs := keras.Input(input_shape)))
    return keras.Model(inputs, keras.layers.Rescaling({settings_of_layer}, name="scaled")(logits))
"""
    )
    settings = {**SETTINGS, "model": f"{file}:build", "epochs": 1}
    messages, _ = trained(features, tmp_path / "run", calibrate=True, **settings)
    assert any("the last layer of the model, scaled, is no dense layer" in message for message in messages)
    assert Run(tmp_path / "run").trained().temperature is None


def test_calibration_needs_a_validation_fold_and_one_worker():
    with pytest.raises(ValueError, match="calibrate = true needs a validation_fold"):
        TrainConfig(calibrate=True)
    with pytest.raises(ValueError, match="calibrate = true requires workers = 1"):
        TrainConfig(calibrate=True, validation_fold="next", workers=2)
