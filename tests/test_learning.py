"""Training settings: schedules, weight decay, mixup, loss, normalization, intervals."""

import numpy as np
import pytest
from support.default_features import FORMAT

from featurize.dataset.dataset import open_dataset
from featurize.dataset.reader import read_row_group
from train.config import TrainConfig
from train.interval import Interval

pytestmark = pytest.mark.usefixtures("logical_cpus")


def rates(steps_per_epoch=10, **settings):
    from train.fit.optimizer import learning_rate

    rate = learning_rate(TrainConfig(epochs=10, learning_rate=0.01, **settings), steps_per_epoch)
    return np.array([float(rate(step)) if callable(rate) else rate for step in range(10 * steps_per_epoch + 1)])


def test_schedules():
    assert set(rates()) == {0.01}
    cosine = rates(schedule="cosine")
    np.testing.assert_allclose(cosine, 0.01 * (1 + np.cos(np.pi * np.arange(101) / 100)) / 2, atol=1e-8)
    warm = rates(schedule="cosine", warmup_epochs=2)
    np.testing.assert_allclose(warm[:21], 0.01 * np.arange(21) / 20, atol=1e-8)
    np.testing.assert_allclose(warm[20:], 0.01 * (1 + np.cos(np.pi * np.arange(81) / 80)) / 2, atol=1e-8)
    constant = rates(warmup_epochs=2)
    np.testing.assert_allclose(constant[:21], 0.01 * np.arange(21) / 20, atol=1e-8)
    np.testing.assert_allclose(constant[20:], 0.01, rtol=1e-6)


@pytest.mark.parametrize(("steps_per_epoch", "warmup_epochs"), [(1, 9.7), (2, 9.9)])
def test_a_warmup_of_nearly_all_epochs_leaves_a_step_after_it(steps_per_epoch, warmup_epochs):
    """A collection that is smaller than a batch has one step per epoch."""
    found = rates(steps_per_epoch, schedule="cosine", warmup_epochs=warmup_epochs)
    np.testing.assert_allclose(found, [*np.linspace(0, 0.01, 10 * steps_per_epoch), 0], atol=1e-8)


def test_weight_decay_applies_to_kernels_only():
    import keras

    from train.fit.optimizer import make_optimizer
    from train.model.architectures import build_model

    model = build_model("conv3-norm", FORMAT, 3, 0.4)
    optimizer = make_optimizer(TrainConfig(weight_decay=0.5, learning_rate=0.1), 10)
    optimizer.build(model.trainable_variables)
    before = [np.array(variable) for variable in model.trainable_variables]
    optimizer.apply([keras.ops.zeros_like(variable) for variable in model.trainable_variables])
    for variable, value in zip(model.trainable_variables, before, strict=True):
        decayed = variable.name == "kernel"
        np.testing.assert_allclose(np.array(variable), value * (0.95 if decayed else 1), rtol=1e-5)


def test_mixup_blends_each_segment_with_another_one_of_the_folds(features):
    from train.input.training_stream import training_stream

    config = TrainConfig(batch_size=48, mixup=0.4, seed=3)
    stream = training_stream(open_dataset(features), config)
    mfcc, labels = stream.batch(1)
    own, others = np.split(mfcc, 2)
    part = stream.replica_batch(1, 0, 1)
    shares = part.shares[:, None, None]
    np.testing.assert_allclose(part.mfcc, shares * own + (1 - shares) * others, atol=1e-3)
    np.testing.assert_array_equal([part.labels, part.others], np.split(labels, 2))
    assert part.shares.min() >= 0.5
    assert part.shares.max() <= 1
    assert 0.75 < part.shares.mean() < 0.95
    tracks = np.array(stream.tracks(1)).reshape(2, 48)
    assert np.mean(tracks[0] == tracks[1]) < 0.3
    again = training_stream(open_dataset(features), config)
    parts = [again.replica_batch(1, replica, 3) for replica in range(3)]
    np.testing.assert_array_equal(np.concatenate([part.mfcc for part in parts]), part.mfcc)
    np.testing.assert_array_equal(np.concatenate([part.others for part in parts]), part.others)
    assert not np.array_equal(again.replica_batch(2, 0, 1).shares, part.shares)


def test_the_loss_includes_label_smoothing_mixup_and_class_weights():
    import keras
    import tensorflow as tf

    from train.fit.forward import training_forward
    from train.fit.train_step import StepConfig, train_step
    from train.input.batches import ReplicaBatch

    net = keras.Sequential([keras.Input((40, 217)), keras.layers.Flatten(), keras.layers.Dense(3)])
    mfcc = np.random.default_rng(1).standard_normal((4, 40, 217)).astype(np.float32)
    labels, others = np.array([0, 1, 2, 0], np.int32), np.array([1, 1, 0, 2], np.int32)
    shares, weights = np.array([1, 0.9, 0.6, 0.5], np.float32), np.array([0.5, 1, 2], np.float32)
    part = ReplicaBatch(*map(tf.constant, (mfcc, labels, others, shares)), *map(tf.constant, (5, 0, 8)))
    loss, _, gradients = train_step(
        net,
        training_forward(net),
        keras.optimizers.SGD(),
        StepConfig(0, weights, 0.1, 0, 0, np.zeros(40)),
        part,
    )
    logits = net(mfcc).numpy().astype(np.float64)
    likelihoods = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    def cross_entropy(label):
        target = 0.9 * np.eye(3)[label] + 0.1 / 3
        return -(target * likelihoods).sum(axis=1) * weights[label]

    expected = (shares * cross_entropy(labels) + (1 - shares) * cross_entropy(others)).sum() / 8
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert len(gradients) == 2


def test_the_model_normalizes_by_the_statistics_of_the_training_folds(features):
    import keras

    from train.model.architectures import build_model
    from train.model.normalization import training_statistics

    dataset = open_dataset(features)
    config = TrainConfig(test_fold=1, validation_fold=3)
    statistics = training_statistics(dataset, config)
    rows = [
        read_row_group(shard, index)[0].astype(np.float64)
        for shard in dataset.in_folds({0, 2, 4})
        for index in range(len(shard.row_groups))
    ]
    mfcc = np.concatenate(rows)
    np.testing.assert_allclose(statistics.mean, mfcc.mean(axis=(0, 2)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(statistics.deviation, mfcc.std(axis=(0, 2)), rtol=1e-4)
    model = build_model("modulation", FORMAT, 3, 0.4, statistics)
    normalized = keras.Model(model.inputs[0], model.get_layer("input_normalization").output)(
        mfcc.astype(np.float32)
    ).numpy()
    np.testing.assert_allclose(normalized.mean(axis=(0, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(normalized.std(axis=(0, 2)), 1, atol=1e-3)


def test_modulation_depends_on_rate_and_not_on_phase():
    """A modulation shifted by half a period has almost the same deviations; a faster one has different ones."""
    import keras

    from train.model.architectures import build_model

    keras.utils.set_random_seed(0)
    model = build_model("modulation", FORMAT, 3, 0.4)
    frames = np.arange(217)
    slow, later, fast = (
        np.sin(2 * np.pi * (frames + delay) / period) for period, delay in ((32, 0), (32, 16), (8, 0))
    )
    rows = np.broadcast_to(np.stack([slow, later, fast])[:, None, :], (3, 40, 217)).astype(np.float32)
    for layer in model.layers[: model.layers.index(model.get_layer("statistics")) + 1]:
        rows = layer(rows)
    mean_and_deviation = np.array(rows)
    assert mean_and_deviation.shape == (3, 2 * 160)
    deviations = mean_and_deviation[:, 160:]
    assert np.abs(deviations[0] - deviations[1]).mean() < 0.3 * np.abs(deviations[0] - deviations[2]).mean()


def test_intervals():
    assert TrainConfig(checkpoint_every="10 minutes").checkpoint_interval == Interval(minutes=10)
    assert TrainConfig(checkpoint_every="1 step").checkpoint_interval == Interval(steps=1)
    assert TrainConfig(checkpoint_every="2 epochs").checkpoint_interval == Interval(epochs=2)
    assert not Interval(minutes=1).is_due(59, 7, True, 3)
    assert Interval(minutes=1).is_due(60, 7, False, 3)
    assert Interval(steps=5).is_due(0, 10, False, 0)
    assert not Interval(steps=5).is_due(0, 11, True, 2)
    assert Interval(epochs=2).is_due(0, 11, True, 2)
    assert not Interval(epochs=2).is_due(0, 11, False, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patience": 3}, "needs a validation_fold to watch"),
        ({"warmup_epochs": 40}, "must be less than epochs = 40"),
        ({"checkpoint_every": "10"}, "String should match pattern"),
    ],
)
def test_invalid_settings_are_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)
