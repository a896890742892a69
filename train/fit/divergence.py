"""What ends training if the loss is not finite, or so large that nothing is learned any more, and its record."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from train.config import TrainConfig
from train.errors import NotFiniteError, TrainError
from train.input.batches import SegmentStream
from train.run import Run

_TRACKS_NAMED = 10


def diverged(run: Run, stream: SegmentStream, config: TrainConfig, step: int, loss: float) -> TrainError:
    """Return the error for a loss; write the tracks of its batch to `not-finite.json`.

    Args:
        run: Output folder.
        stream: Training batches.
        config: Settings.
        step: Step of the batch, counted from the start of training.
        loss: Its loss.
    """
    mfcc, _ = stream.batch(step)
    tracks = np.array(stream.tracks(step))
    bad = np.unique(tracks[~np.isfinite(mfcc).all(axis=(1, 2))]).tolist()
    distinct = np.unique(tracks).tolist()
    _write(run, step, loss, distinct, bad)
    advice = (
        f"The features of {_abbreviate(bad)} are not finite: delete their shards and featurize again"
        if bad
        else "All its features are finite, so try --set train.learning_rate="
        f"{config.learning_rate / 10:g} with another --out"
    )
    return TrainError(
        f"the loss is {loss:.4g} in step {step + 1} (epoch {step // stream.steps_per_epoch + 1}). Its batch has "
        f"segments of {_abbreviate(distinct)}; {run.folder / 'not-finite.json'} lists all. {advice}. The "
        "checkpoints are from before that step."
    )


@contextmanager
def recorded_divergence(run: Run, step: int) -> Iterator[None]:
    """Return a context for an evaluation in training: if it raises a NotFiniteError, `not-finite.json` is written.

    Args:
        run: Output folder.
        step: Last step before it.
    """
    try:
        yield
    except NotFiniteError:
        _write(run, step, math.nan, [], [])
        raise


def _write(run: Run, step: int, loss: float, tracks: list[str], bad: list[str]) -> None:
    run.write("not-finite.json", {"step": step, "loss": str(loss), "tracks": tracks, "bad": bad})


def _abbreviate(names: list[str]) -> str:
    """Join names with commas, at most _TRACKS_NAMED of them."""
    more = f" and {len(names) - _TRACKS_NAMED} more" if len(names) > _TRACKS_NAMED else ""
    return ", ".join(names[:_TRACKS_NAMED]) + more
