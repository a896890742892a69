"""Who is told of the progress of the pipeline: what shows it, and what records it elsewhere."""

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from featurize.dataset_build.driver import FeaturizeProgress
    from featurize.dataset_build.finalize import Summary
    from train.records import EpochRecord


class FeaturizeReporter(Protocol):
    """Shows the progress of featurizing."""

    def featurizing(self) -> AbstractContextManager[Callable[["FeaturizeProgress"], None]]:
        """Return a context whose value is called with the progress."""

    def rejects(self, summary: "Summary") -> None:
        """Show how many tracks were rejected."""


class TrainingReporter(Protocol):
    """Shows the progress of training."""

    def training(
        self,
    ) -> AbstractContextManager[tuple[Callable[[int, int], None], Callable[["EpochRecord", int], None]]]:
        """Return a context whose value are functions of (finished steps, all steps) and (epoch, all epochs)."""


@dataclasses.dataclass(frozen=True)
class RunObserver:
    """Functions that are called as the files of a run change.

    Attributes:
        began: Called when this command has the run for itself, and run.json has its settings.
        epoch_ended: Called after each epoch.
    """

    began: Callable[[], None] = lambda: None
    epoch_ended: Callable[[], None] = lambda: None


NO_OBSERVER = RunObserver()
