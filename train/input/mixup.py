"""Mixup: each segment of a batch with a little of another one laid over it (Zhang et al. 2018)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.input.batches import Mix
from train.input.sampler import Draw, keyed_generator
from train.input.window_cache import LabeledSegments


def mixup(alpha: float, seed: int) -> Mix:
    """Return what mixes the rows of a batch with one another, by numbers that (seed, step) determine.

    Args:
        alpha: of the Beta(alpha, alpha) distribution of the shares. Of a share and its rest the larger one
            belongs to the row itself.
        seed: of the run.

    Returns:
        a function of the step and of the batch's rows to the mixed MFCC, float32 [rows, 40, 217]; the labels and
        the labels of what was mixed in, int32 [rows]; and the share of the first in each row, float32 [rows].
    """

    def mix(step: int, rows: LabeledSegments) -> tuple[NDArray[Any], ...]:
        mfcc, labels = rows
        generator = keyed_generator(Draw.MIXUP, seed, step)
        partners = generator.permutation(len(labels))
        shares = generator.beta(alpha, alpha, len(labels)).astype(np.float32)
        shares = np.maximum(shares, 1 - shares)
        mixed = mfcc[partners]
        # In place, since the batch is large: mixed + share * (own - mixed).
        np.subtract(mfcc, mixed, out=mfcc)
        mfcc *= shares[:, None, None]
        mfcc += mixed
        return mfcc, labels, labels[partners], shares

    return mix
