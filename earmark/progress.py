"""Progress as calls of the caller's functions, in place of the bars of the command line."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featurize.dataset_build.driver import FeaturizeProgress
    from featurize.dataset_build.finalize import Summary
    from train.records import EpochRecord

OnTracks = Callable[[int, int], None]
OnStep = Callable[[int, int], None]
OnEpoch = Callable[["EpochRecord", int], None]


class CallbackReporter:
    """Passes progress on to functions; prints nothing."""

    def __init__(
        self, on_tracks: OnTracks | None = None, on_step: OnStep | None = None, on_epoch: OnEpoch | None = None
    ) -> None:
        """Store the functions.

        Args:
            on_tracks: Called with (tracks done, all tracks).
            on_step: Called with (training steps done, all steps).
            on_epoch: Called with the record of each epoch, and the number of epochs.
        """
        self._on_tracks = on_tracks or (lambda done, total: None)
        self._on_step = on_step or (lambda done, total: None)
        self._on_epoch = on_epoch or (lambda record, epochs: None)

    @contextmanager
    def featurizing(self) -> Iterator[Callable[["FeaturizeProgress"], None]]:
        """Report the tracks done."""
        yield lambda progress: self._on_tracks(progress.done, progress.total)

    def rejects(self, summary: "Summary") -> None:
        """Report nothing: the dataset has its rejects."""

    @contextmanager
    def training(self) -> Iterator[tuple[OnStep, OnEpoch]]:
        """Report steps and epochs."""
        yield self._on_step, self._on_epoch

    @contextmanager
    def predicting(self, total: int) -> Iterator[Callable[[int, int], None]]:
        """Report the tracks done."""
        yield lambda done, rejects: self._on_tracks(done, total)
