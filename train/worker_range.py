"""How many workers train together: a number, or a range of which training uses as many as there is room for."""

import dataclasses
import re
from typing import Any

MOST_WORKERS = 4096


@dataclasses.dataclass(frozen=True)
class WorkerRange:
    """The setting `train.workers`.

    Attributes:
        fewest: Least number of workers.
        most: Largest number of workers.
        is_elastic: Whether their number may change while a model is trained: the setting is a range.
        on_cpus: Whether workers train on CPUs, where their number must divide `parts`.
    """

    fewest: int
    most: int
    is_elastic: bool
    on_cpus: bool

    @classmethod
    def parse(cls, setting: int | str, on_cpus: bool) -> "WorkerRange":
        """Return the range that a setting such as 4 or 2..8 describes; `check_workers` has accepted it."""
        numbers = [int(number) for number in str(setting).split("..")]
        return cls(numbers[0], numbers[-1], isinstance(setting, str), on_cpus)

    @property
    def needs_ray(self) -> bool:
        """Whether Ray's workers train, also on a single machine."""
        return self.is_elastic or self.most > 1

    @property
    def parts(self) -> int:
        """Parts of a batch, each a logical CPU, that elastic workers share on CPUs.

        Their number does not depend on the current number of workers, so the same numbers are added in the same
        order, and weights have the same bits. It is the largest number of workers, or twice that if this
        makes more of the numbers in the range usable.
        """
        return max((self.most, 2 * self.most), key=lambda parts: len(self._usable(parts)))

    @property
    def usable(self) -> list[int]:
        """The numbers of workers that can share a batch."""
        return self._usable(self.parts if self.on_cpus else 0)

    def number_for(self, room: int) -> int:
        """Return how many workers to use where there is room for some; 0 if these are too few."""
        return max((workers for workers in self.usable if workers <= room), default=0)

    def _usable(self, parts: int) -> list[int]:
        return [workers for workers in range(self.fewest, self.most + 1) if parts % workers == 0]


def check_workers(value: Any) -> Any:
    """Raise a ValueError unless a value is a number of workers, or a range of such numbers."""
    is_number = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_WORKERS
    found = re.fullmatch(r"([1-9]\d*)\.\.([1-9]\d*)", value) if isinstance(value, str) else None
    if not (is_number or (found and int(found[1]) <= int(found[2]) <= MOST_WORKERS)):
        raise ValueError(f"expected a number from 1 to {MOST_WORKERS}, or a range of such numbers as 2..8")
    return value
