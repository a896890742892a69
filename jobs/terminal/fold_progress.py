"""Progress of models that are trained at the same time: folds of a cross-validation, trials of a search."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from train.records import EpochRecord


class FoldReporter:
    """Shows the progress of the folds of a cross-validation, several of which may be trained at a time."""

    def __init__(
        self, folds: int, unit: str, show: Callable[[int, int, str], None], line: Callable[[str], None]
    ) -> None:
        """Begin without any step.

        Args:
            folds: Number of folds.
            unit: What they are called: folds, or models if there are several for each fold.
            show: Shows (done steps, all steps, remark).
            line: Prints a line.
        """
        self.unit = unit
        self._folds = folds
        self._show = show
        self._line = line
        self._steps: dict[int, tuple[int, int]] = {}

    def step(self, number: int, done: int, total: int) -> None:
        """Show the steps of fold `number`, which counts from 1."""
        self._steps[number] = done, total
        known = [total for _, total in self._steps.values()]
        expected = sum(known) + (self._folds - len(known)) * max(known)
        finished = sum(done == total for done, total in self._steps.values())
        if expected:
            self._show(
                sum(done for done, _ in self._steps.values()),
                expected,
                f"{finished} of {self._folds} {self.unit} trained",
            )

    def finished(self, number: int) -> None:
        """Count a fold as finished; it has no steps if an earlier command has trained it."""
        self.step(number, *[self._steps.get(number, (0, 0))[1]] * 2)

    def epoch(self, name: str, entry: "EpochRecord", epochs: int) -> None:
        """Print the figures of an epoch of a fold."""
        self._line(f"{name} | {epoch_line(entry, epochs)}")


class TrialReporter:
    """Shows the progress of the trials of a search, several of which may be trained at a time."""

    def __init__(self, done: Callable[[int, int], None], line: Callable[[str], None]) -> None:
        """Begin without any trial.

        Args:
            done: Shows (finished trials, all trials).
            line: Prints a line.
        """
        self.done = done
        self._line = line

    def epoch(self, number: int, entry: "EpochRecord", epochs: int) -> None:
        """Print the figures of an epoch of trial `number`."""
        self._line(f"trial {number} | {epoch_line(entry, epochs)}")


def epoch_line(entry: "EpochRecord", epochs: int) -> str:
    """Return the line of an epoch: losses, accuracies and speed."""
    parts = [f"epoch {entry.epoch:>{len(str(epochs))}}/{epochs}"]
    parts.append(f"train loss {entry.train.loss:.3f} accuracy {entry.train.accuracy:.3f}")
    for name, figures in entry.held_out.items():
        parts.append(f"{name} loss {figures.loss:.3f} accuracy {figures.accuracy:.3f}")
    parts.append(f"{entry.examples_per_second:.0f} segments/s")
    return " | ".join(parts)
