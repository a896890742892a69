"""Batches distributed to the replicas of a strategy."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol

import tensorflow as tf

from train.input.batches import ReplicaBatch


class Stream(Protocol):
    """Batches of steps, of which each replica has a part; see `train.input.batches.SegmentStream`."""

    @property
    def spec(self) -> ReplicaBatch:
        """The `tf.TensorSpec` of each field of the elements of `dataset`."""

    def dataset(self, start: int, stop: int, replicas: int, local_replicas: Sequence[int]) -> tf.data.Dataset:
        """Return the parts of some replicas of the batches of some steps."""

    def explain(self, error: tf.errors.OpError) -> Exception:
        """Return the error that a dataset ended with."""


class DistributedBatches:
    """Iterator over the batches of some steps, each divided over the replicas and prefetched onto their devices.

    Use it as a context manager, which stops the prefetching on exit. Otherwise an exception's traceback could keep
    the iterator alive until the interpreter exits, and it would hang waiting for Python code that can no longer
    run.
    """

    def __init__(self, strategy: tf.distribute.Strategy, stream: Stream, start: int, stop: int) -> None:
        """Start reading the batches of the steps [start, stop).

        Args:
            strategy: Strategy whose replicas receive the batches.
            stream: Batches.
            start: First step.
            stop: Step after the last.

        Raises:
            TrainError: As the `dataset` of the stream.
        """
        self._stream = stream
        replicas = strategy.num_replicas_in_sync
        # The dataset is padded to be endless and the steps are counted here: for a finite one, TensorFlow checks
        # in each step whether every replica has a next element, which takes milliseconds.
        padding = tf.data.Dataset.from_tensors(ReplicaBatch(*map(_zeros, stream.spec))).repeat()

        def worker_dataset(context: tf.distribute.InputContext) -> tf.data.Dataset:
            count = replicas // context.num_input_pipelines  # each worker has one pipeline
            first = context.input_pipeline_id * count
            dataset = stream.dataset(start, stop, replicas, range(first, first + count)).concatenate(padding)
            return dataset.with_options(_only_own_prefetch())

        batches = strategy.distribute_datasets_from_function(worker_dataset)
        self.spec = batches.element_spec
        self._remaining = stop - start
        self._batches: Any = iter(batches) if self._remaining else iter(())

    def __enter__(self) -> "DistributedBatches":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._batches = iter(())

    def __iter__(self) -> "DistributedBatches":
        return self

    def __next__(self) -> Any:
        if not self._remaining:
            raise StopIteration
        return self._draw(1, next)

    def run(self, function: Callable[[Any, tf.Tensor], Any], count: int) -> Any:
        """Let a TensorFlow function draw the next batches itself, and return its result.

        Args:
            function: Called with the distributed iterator, and the number of batches to draw from it, int32.
            count: Number of batches.

        Raises:
            ValueError: Fewer batches are left.
        """
        if count > self._remaining:
            raise ValueError(f"{count} batches were requested, but only {self._remaining} are left")
        return self._draw(count, lambda batches: function(batches, tf.constant(count)))

    def _draw(self, count: int, draw: Callable[[Any], Any]) -> Any:
        """Draw some batches; an error of the pipeline is raised as the error that it began with."""
        self._remaining -= count
        try:
            return draw(self._batches)
        except tf.errors.OpError as error:
            raise self._stream.explain(error) from error


def _only_own_prefetch() -> tf.data.Options:
    """Return options without the prefetching that TensorFlow adds to the end of a dataset.

    Whenever a batch is not there in time, it reads further ahead from then on, up to a share of the machine's
    memory. The streams prefetch a few batches themselves.
    """
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    return options


def _zeros(spec: tf.TensorSpec) -> tf.Tensor:
    """Return one row of zeros, or a single 0, of a spec."""
    return tf.zeros([1 if size is None else size for size in spec.shape], spec.dtype)
