"""Training gives the same result on any number of replicas and workers."""

import contextlib
import json
import os
import socket
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from support.training import EVERYTHING, trained

from featurize.dataset.dataset import open_dataset
from train.config import TrainConfig
from train.errors import TrainError
from train.run import Run

pytestmark = pytest.mark.usefixtures("logical_cpus")

# Rounding grows from step to step where training is unstable. Without normalization and in some orders of the
# segments, the losses of conv3 on one and two replicas are equal in the first steps and differ by 5% after fifty.
CALM = {"dropout": 0.0, "normalize": True, "learning_rate": 1e-5}


def by_hand(*models):
    """Return parameters for tests that CI has no time for."""
    return [pytest.param(model, marks=pytest.mark.matrix) for model in models]


def train_steps(features, replicas, steps, calls=(), elastic=None, **settings):
    """Train for some steps, some in calls of the given lengths; return losses, weights, averages, slots.

    `elastic` is the current number of workers if `workers` is a range.
    """
    import keras

    from train.fit.optimizer import make_optimizer
    from train.fit.restore import make_step_config
    from train.fit.train_step import distributed_steps
    from train.fit.weight_average import average_of
    from train.input.class_counts import segment_counts
    from train.input.distributed import DistributedBatches
    from train.input.training_stream import training_stream
    from train.model.architectures import build_model
    from train.model.normalization import training_statistics
    from train.model.strategy import make_elastic_strategy, make_strategy

    dataset = open_dataset(features)
    config = TrainConfig.model_validate({"batch_size": 30, "shuffle_window": 40, "replicas": replicas, **settings})
    keras.utils.set_random_seed(3)
    strategy = make_elastic_strategy(config, elastic) if elastic else make_strategy(config)
    stream = training_stream(dataset, config)
    statistics = training_statistics(dataset, config)
    with strategy.scope():
        model = build_model(
            config.model,
            dataset.info.settings.format,
            3,
            config.dropout,
            statistics if config.normalize else None,
            config.precision,
        )
        optimizer = make_optimizer(config, stream.steps_per_epoch)
        optimizer.build(model.trainable_variables)
        average = average_of(model, 1.5 * stream.steps_per_epoch)
    counts = segment_counts(dataset, config)["train"]
    step_config = make_step_config(config, counts, statistics)
    with DistributedBatches(strategy, stream, 0, steps) as batches:
        function = distributed_steps(strategy, model, optimizer, step_config, compiled=False, average=average)
        lengths = [*calls, *[1] * (steps - sum(calls))]
        losses = np.concatenate([batches.run(function, length).losses.numpy() for length in lengths])
    assert function.experimental_get_tracing_count() == 1
    slots = [np.array(variable) for variable in optimizer.variables]
    return losses, [*model.get_weights(), *average.model.get_weights(), *slots]


def train_in_new_process(*arguments, **settings):
    """Train in a new process: TensorFlow confuses the collectives of four replicas with those of two."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(train_steps, *arguments, **settings).result()


def train_on_workers(features, workers, steps, **settings):
    """Train in one process per worker, connected by TF_CONFIG; return the result of the first."""
    results = on_workers(workers, train_steps, features, None, steps, workers=workers, **settings)
    losses, weights = differences(*results)
    assert losses == weights == 0  # every worker has the same result
    return results[0]


def on_workers(workers, function, /, *arguments, **settings):
    """Call a function in one process per worker, connected by TF_CONFIG; return the result of each."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(workers)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{free.getsockname()[1]}" for free in sockets]
    with ProcessPoolExecutor(workers, get_context("spawn")) as processes:
        running = [
            processes.submit(as_worker, addresses, index, function, *arguments, **settings)
            for index in range(workers)
        ]
        return [process.result() for process in running]


def as_worker(addresses, index, function, /, *arguments, **settings):
    task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    os.environ["TF_CONFIG"] = json.dumps(task)
    return function(*arguments, **settings)


def evaluate_fold(features, workers):
    """Evaluate a new model on a fold of two lanes; return the scores, and how many rows this worker predicted."""
    import keras

    from train.evaluation.held_out import held_out
    from train.evaluation.predictor import Predictor
    from train.model.architectures import build_model
    from train.model.strategy import make_strategy

    config = TrainConfig(batch_size=5, workers=workers, model="conv3-norm")
    keras.utils.set_random_seed(3)
    strategy = make_strategy(config)
    dataset = open_dataset(features)
    with strategy.scope():
        model = build_model(config.model, dataset.info.settings.format, len(dataset.classes), config.dropout)
    rows = []
    predictor = Predictor(strategy, model)
    fold = held_out(dataset, config, 0)
    scores = [fold.score(predictor, lambda _, labels: rows.append(len(labels))) for _ in range(2)]
    assert scores[0] == scores[1]
    return scores[0], sum(rows) // 2


def differences(one, other):
    """Return the largest relative difference of losses, and the largest absolute difference of weights."""
    losses = np.abs(one[0] / other[0] - 1).max()
    weights = max(np.abs(a - b).max() for a, b in zip(one[1], other[1], strict=True))
    return losses, weights


def test_two_replicas_give_the_result_of_one(features):
    """With dropout, mixup and masks, which depend on the row of the batch and not on the replica."""
    settings = {**EVERYTHING, "epochs": 2, "dropout": 0.4}
    losses, weights = differences(*(train_steps(features, replicas, 5, **settings) for replicas in (1, 2)))
    assert losses < 1e-5
    assert weights < 1e-4


def test_gradients_that_overflow_on_one_replica_are_skipped_on_all(features, tmp_path):
    """In float16, where the loss is scaled up until a gradient of some rows overflows."""
    settings = {"precision": "mixed_float16", "epochs": 3}
    for replicas in (1, 2):
        trained(features, tmp_path / str(replicas), replicas=replicas, **settings)
    one, two = (Run(tmp_path / name) for name in ("1", "2"))
    losses = [[epoch.train.loss for epoch in run.history()] for run in (one, two)]
    np.testing.assert_allclose(*losses, rtol=0.05)


@pytest.mark.parametrize(
    ("model", "replicas"),
    [
        ("modulation", 2),
        *(pytest.param(model, 1, marks=pytest.mark.slow) for model in ("conv3", "conv3-norm", "modulation")),
        *(pytest.param(model, 2, marks=pytest.mark.slow) for model in ("conv2", "conv3-norm")),
    ],
)
def test_steps_of_one_call_give_the_bits_of_single_steps(model, replicas, features):
    """With dropout, mixup and masks, across the ends of epochs and in calls of several lengths."""
    settings = {**EVERYTHING, "epochs": 3, "dropout": 0.4, "model": model}
    one = train_steps(features, replicas, 9, **settings)
    assert differences(train_steps(features, replicas, 9, calls=(2, 4, 3), **settings), one) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["conv3-norm", *by_hand("conv2", "conv3")])
def test_fifty_steps_on_one_two_and_four_replicas(model, features):
    """Batches of 30, 30 and 36 of the 96 segments: the last is larger, and 4 replicas cannot divide 30 evenly."""
    one = train_in_new_process(features, 1, 50, model=model, **CALM)
    assert len(one[0]) == 50
    for replicas in (2, 4):
        losses, weights = differences(train_in_new_process(features, replicas, 50, model=model, **CALM), one)
        print(f"{model}: {replicas} replicas, losses within {losses:.1e}, weights within {weights:.1e}")
        assert losses < 1e-5
        assert weights < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("model", ["conv3-norm", *by_hand("conv2", "modulation")])
def test_fifty_steps_on_two_workers(model, features):
    settings = {"model": model, **CALM}
    two = train_on_workers(features, 2, 50, **settings)
    losses, weights = differences(two, train_in_new_process(features, 1, 50, **settings))
    print(f"{model}: 2 workers, losses within {losses:.1e}, weights within {weights:.1e}")
    assert losses < 1e-5
    # Two replicas in one process compute the same sums.
    assert differences(two, train_in_new_process(features, 2, 50, **settings)) == (0, 0)
    # So do steps of one call.
    assert differences(two, train_on_workers(features, 2, 50, calls=(32, 7, 11), **settings)) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["modulation", *by_hand("conv3-norm")])
def test_the_number_of_elastic_workers_does_not_change_a_bit(model, features):
    """With dropout, mixup and masks, and batch normalization over the six parts of `1..3`."""
    settings = {**EVERYTHING, "epochs": 3, "warmup_epochs": 0, "dropout": 0.4, "model": model, "device": "cpu"}
    one, *others = (
        on_workers(number, train_steps, features, None, 9, elastic=number, workers="1..3", **settings)
        for number in (1, 2, 3)
    )
    for results in others:
        assert [differences(result, one[0]) for result in results] == [(0, 0)] * len(results)


@pytest.mark.slow
def test_two_workers_evaluate_their_shares_and_get_the_bits_of_one(features):
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        one, rows = process.submit(evaluate_fold, features, 1).result()
    assert rows == one.segments.count == 24
    assert on_workers(2, evaluate_fold, features, 2) == [(one, 12), (one, 12)]


def test_dropout_masks_differ_between_rows_and_steps():
    import keras
    import tensorflow as tf

    from train.fit.forward import StatelessRng, forward
    from train.input.batches import ReplicaBatch

    net = keras.Sequential([keras.Input((1000,)), keras.layers.Dropout(0.4)])

    def masked(step, first, rows):
        part = ReplicaBatch(None, None, None, None, tf.constant(step), tf.constant(first), tf.constant(8))
        return forward(net, tf.ones((rows, 1000)), StatelessRng(7, part)).numpy()

    whole = masked(3, 0, 8)
    assert np.mean(whole == 0) == pytest.approx(0.4, abs=0.05)
    assert np.unique(whole).tolist() == pytest.approx([0, 1 / 0.6])
    assert len(np.unique(whole, axis=0)) == 8
    np.testing.assert_array_equal(np.concatenate([masked(3, 0, 3), masked(3, 3, 5)]), whole)
    assert np.mean(masked(4, 0, 8) == whole) < 0.7


def test_masks_replace_spans_by_the_mean():
    import tensorflow as tf

    from train.fit.train_step import StatelessRng, StepConfig, mask
    from train.input.batches import ReplicaBatch

    fill = np.arange(40, dtype=np.float32) + 1000
    step_config = StepConfig(0, np.ones(3, np.float32), 0.0, 50, 10, fill)
    rows = 200
    part = ReplicaBatch(None, None, None, None, tf.constant(5), tf.constant(0), tf.constant(rows))
    masked = mask(tf.zeros((rows, 40, 217)), step_config, StatelessRng(1, part)).numpy()
    hidden = masked != 0
    assert (masked[hidden] == np.broadcast_to(fill[:, None], (40, 217))[None].repeat(rows, 0)[hidden]).all()
    frames, coefficients = hidden.all(axis=1).sum(axis=1), hidden.all(axis=2).sum(axis=1)
    # Two masks, each 0 to 50 frames or 0 to 10 coefficients wide, which may overlap.
    assert frames.max() <= 100
    assert 30 < frames.mean() < 50
    assert coefficients.max() <= 20
    assert 6 < coefficients.mean() < 10
    np.testing.assert_array_equal(hidden, hidden.all(axis=1)[:, None, :] | hidden.all(axis=2)[:, :, None])


def test_a_replica_without_rows_is_refused(features):
    from train.input.distributed import DistributedBatches
    from train.input.training_stream import training_stream
    from train.model.strategy import make_strategy

    stream = training_stream(open_dataset(features), TrainConfig(batch_size=3))
    with pytest.raises(TrainError, match="4 replicas cannot share a batch of 3 segments"):
        DistributedBatches(make_strategy(TrainConfig(replicas=4)), stream, 0, 1)
