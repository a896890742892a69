"""The moving average of the weights is the one that its formula gives, and it is what is evaluated and saved."""

import numpy as np
import pytest

from train.run import Run

pytestmark = pytest.mark.usefixtures("logical_cpus")


def test_the_average_follows_the_weights_and_forgets_the_first_ones():
    import keras
    import tensorflow as tf

    from train.fit.weight_average import average_of

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1), keras.layers.BatchNormalization()])
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    average = average_of(model, steps=4)
    expected = model.get_weights()
    for step in range(1, 60):
        model.set_weights([weight + step for weight in model.get_weights()])
        optimizer.iterations.assign(step)
        average.update(tf.distribute.get_strategy(), model, optimizer)
        share = max(1 / 4, 9 / (10 + step))
        expected = [old + share * (new - old) for old, new in zip(expected, model.get_weights(), strict=True)]
        for found, wanted in zip(average.model.get_weights(), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert share == 1 / 4


def test_the_average_is_evaluated_and_saved(features, tmp_path):
    from support.training import trained

    from featurize.dataset.dataset import open_dataset
    from train.evaluation.evaluate import evaluate_run
    from train.evaluation.held_out import held_out
    from train.evaluation.inference import load_model
    from train.evaluation.predictor import Predictor
    from train.model.strategy import make_strategy

    _, epochs = trained(features, tmp_path / "averaged", average_epochs=1, epochs=1)
    trained(features, tmp_path / "latest", epochs=1)
    run = Run(tmp_path / "averaged")
    averaged, latest = load_model(run), load_model(Run(tmp_path / "latest"))
    assert any(
        np.abs(one - other).max() > 1e-6
        for one, other in zip(averaged.get_weights(), latest.get_weights(), strict=True)
    )
    # Training itself is the same: only the model that is evaluated is another one.
    assert [epoch.train for epoch in run.history()] == [
        epoch.train for epoch in Run(tmp_path / "latest").history()
    ]
    dataset = open_dataset(features)
    fold = held_out(dataset, run.config(), 1)
    strategy = make_strategy(run.config())
    with strategy.scope():
        averaged = load_model(run)
    best = max(epochs, key=lambda epoch: (epoch.validation.track_macro_f1, -epoch.validation.loss))
    assert fold.score(Predictor(strategy, averaged)).figures == best.validation
    assert evaluate_run(run, dataset).epoch == best.epoch
