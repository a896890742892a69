"""How many batches are read before they are drawn does not grow."""

import time

import numpy as np

from featurize.errors import EarmarkError

BATCHES = 900


class Recorded:
    """A stream that records which batches were read."""

    def __init__(self) -> None:
        from train.input.batches import replica_batch_spec

        self.spec = replica_batch_spec((2, 3))
        self.read = 0
        self._failures: list[EarmarkError] = []

    def dataset(self, start, stop, replicas, local_replicas):
        from train.input.batches import pipeline

        return pipeline(self._batch, self.spec, start, stop, 1, self._failures)

    def explain(self, error):
        return error

    def _batch(self, index):
        from train.input.batches import ReplicaBatch

        if index % 24 == 0:
            time.sleep(0.06)  # as if a window were not there yet: TensorFlow would then read further ahead
        self.read = max(self.read, index + 1)
        labels = np.zeros(4, np.int32)
        fields = [np.zeros((4, 2, 3), np.float32), labels, labels, np.ones(4, np.float32)]
        return ReplicaBatch(*fields, *np.array([index, 0, 4], np.int64))


def test_a_reader_that_is_sometimes_slow_does_not_read_further_and_further_ahead(logical_cpus):
    import tensorflow as tf

    from train.input.distributed import DistributedBatches

    stream = Recorded()
    ahead = []
    with DistributedBatches(tf.distribute.MirroredStrategy(["/cpu:0"]), stream, 0, BATCHES) as batches:
        for drawn, _ in enumerate(batches, 1):
            time.sleep(0.002)
            ahead.append(stream.read - drawn)
    assert len(ahead) == stream.read == BATCHES
    assert max(ahead) <= 12
