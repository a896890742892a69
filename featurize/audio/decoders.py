"""What the two readers of audio files have in common: blocks of samples, limits, and refusals."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

LOWEST_RATE, HIGHEST_RATE = 100, 1_000_000  # Hz; a rate outside is damage
MOST_CHANNELS = 1024  # as libsndfile; a block of all channels is held in memory


class Refused(Exception):  # noqa: N818 - one reader's finding; the other reader may read the file
    """A reader does not read a file; the message is the reason."""


class Block(NamedTuple):
    """Successive samples of an audio file.

    Attributes:
        rate: Sample rate in Hz, which may differ from that of the previous block.
        channels: float32 [channels, frames], valid until the next block is requested.
    """

    rate: int
    channels: Float32


class Decoder(Protocol):
    """An open audio file.

    Attributes:
        reader: Name of the library.
        rate: Sample rate by the header, in Hz; 0 if the header does not give one.
        frames: Length by the header, which may be wrong; 0 if the header does not give one.
        exact_frames: Length by the header, if the header of an intact file gives exactly what can be decoded, also
            where the file is cut before that; 0 if it does not.
        packets: Packets that were decoded, as far as the library counts them.
        skipped: Damaged packets that were passed over.
    """

    reader: str
    rate: int
    frames: int
    exact_frames: int
    packets: int
    skipped: int

    def seek(self, frame: int) -> bool:
        """Seek to a frame; return whether that worked."""

    def blocks(self) -> Iterator[Block]:
        """Yield the samples from the current position to the end, or to where the library gives up.

        Raises:
            Refused: There is no sample that can be decoded, or too much of the file is damaged.
            Reject: Stage `decode`: the library takes too long.
        """

    def unread_bytes(self) -> int:
        """Return the number of bytes behind the last sample that may be sound; called when `blocks` has ended."""

    def missing_bytes(self) -> int:
        """Return how many bytes less the file has than its header says; 0 if the header does not say it."""

    def close(self) -> None:
        """Close the file."""


def refuse_out_of_range(rate: int, channels: int) -> None:
    """Raise Refused if a sample rate, in Hz, or a number of channels is one that no recording has."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise Refused(f"the sample rate is {rate} Hz")
    if channels > MOST_CHANNELS:
        raise Refused(f"it has {channels} channels, expected at most {MOST_CHANNELS}")
