"""Mixup: each segment of a batch is blended with another one of its window (Zhang et al. 2018)."""

import numpy as np
from numpy.typing import NDArray

from train.input.batches import MixupShares
from train.input.sampler import Draw, keyed_generator


def mixup_shares(alpha: float, seed: int) -> MixupShares:
    """Return a function that draws the weights of the segments of a batch; it depends only on (seed, step).

    Args:
        alpha: Parameter of the Beta(alpha, alpha) distribution of the weights. A row always keeps the larger of
            the two weights, 0.5 or more.
        seed: Random seed of the run.

    Returns:
        Function from a step and the rows of its batch to the weight of each row, float32 [rows]; the row that is
        blended into it has the remaining weight.
    """

    def draw(step: int, rows: int) -> NDArray[np.float32]:
        shares = keyed_generator(Draw.MIXUP, seed, step).beta(alpha, alpha, rows).astype(np.float32)
        return np.maximum(shares, 1 - shares)

    return draw
