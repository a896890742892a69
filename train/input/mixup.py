"""Mixup: each segment of a batch is blended with another one of the batch (Zhang et al. 2018)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.input.batches import Mix
from train.input.sampler import Draw, keyed_generator
from train.input.window_cache import LabeledSegments


def mixup(alpha: float, seed: int) -> Mix:
    """Return a function that mixes the rows of a batch with one another; it depends only on (seed, step).

    Args:
        alpha: Parameter of the Beta(alpha, alpha) distribution of the weights. A row always keeps the larger of
            the two weights, 0.5 or more.
        seed: Random seed of the run.

    Returns:
        Function from a step and the rows of its batch to the mixed MFCC, float32 [rows, 40, 217]; the labels of
        the rows and of the rows mixed in, int32 [rows] each; and the weight of the former, float32 [rows]. It
        mixes the MFCC of the batch in place.
    """

    def mix(step: int, rows: LabeledSegments) -> tuple[NDArray[Any], ...]:
        mfcc, labels = rows
        generator = keyed_generator(Draw.MIXUP, seed, step)
        partners = generator.permutation(len(labels))
        shares = generator.beta(alpha, alpha, len(labels)).astype(np.float32)
        shares = np.maximum(shares, 1 - shares)
        mixed = mfcc[partners]
        # In place, because the batch is large: mixed + share * (own - mixed).
        np.subtract(mfcc, mixed, out=mfcc)
        mfcc *= shares[:, None, None]
        mfcc += mixed
        return mfcc, labels, labels[partners], shares

    return mix
