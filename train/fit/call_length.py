"""How many training steps run in one call of a TensorFlow function."""

from collections.abc import Callable

import tensorflow as tf

from train.config import TrainConfig

STEPS_BETWEEN_POINTS = 50  # of TensorBoard
_SECONDS = 0.5  # of a call: progress, stop requests and checkpoints wait for its end
_FASTEST_GROWTH = 4


class CallLength:
    """Chooses the number of steps of each call from the time that the steps before it took.

    Everything that happens at a certain step ends a call: the end of an epoch, a checkpoint by steps, a point of
    TensorBoard, and the start and the end of a profile. Results do not depend on the numbers chosen.
    """

    def __init__(self, config: TrainConfig, agree: Callable[[float], float] = lambda seconds: seconds) -> None:
        """Begin with calls of one step.

        Args:
            config: Settings.
            agree: Function from the seconds of a call on this worker to those that all workers use, because they
                must make the same calls.
        """
        self._most = STEPS_BETWEEN_POINTS if config.steps_per_call == "auto" else config.steps_per_call
        self._between_checkpoints = config.checkpoint_interval.steps
        self._agree = agree
        self._steps = 1
        self._measured = False  # the first call is not: it also traces the function

    def steps(self, step: int, stop: int, border: int | None = None) -> int:
        """Return the number of steps of the next call, at least 1.

        Args:
            step: Number of finished steps.
            stop: Number of finished steps at the end of the epoch.
            border: Number of steps after which a call must end; None for no such number.
        """
        intervals = [STEPS_BETWEEN_POINTS, self._between_checkpoints or STEPS_BETWEEN_POINTS]
        return min(
            self._steps,
            stop - step,
            border or stop - step,
            *(interval - step % interval for interval in intervals),
        )

    def measure(self, steps: int, seconds: float) -> None:
        """Choose the number for the next calls after a call of `steps` steps that took `seconds`."""
        if self._most == 1:
            return
        if self._measured:
            affordable = int(_SECONDS * steps / max(self._agree(seconds), 1e-9))
            self._steps = max(1, min(affordable, self._most, _FASTEST_GROWTH * self._steps))
        self._measured = True


def mean_over_workers(strategy: tf.distribute.Strategy) -> Callable[[float], float]:
    """Return a function that returns the mean of a number over the replicas of all workers; all must call it."""

    def mean(value: tf.Tensor) -> tf.Tensor:
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, strategy.run(tf.identity, args=(value,)), axis=None)

    traced = tf.function(mean, autograph=False)
    return lambda number: float(traced(tf.constant(number, tf.float64)))
