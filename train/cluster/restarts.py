"""When training that has lost its workers is tried again."""

import dataclasses

MOST_FAILURES = 8


@dataclasses.dataclass
class Restarts:
    """Counts failures since the last progress: workers that die now and then never end a long training.

    Attributes:
        step: Finished steps of the latest checkpoint when the last attempt ended.
        failures: Attempts that failed since a checkpoint was written.
    """

    step: int
    failures: int = 0

    def may_retry(self, step: int, announced: bool) -> bool:
        """Return whether another attempt is worth it.

        Args:
            step: Finished steps of the latest checkpoint.
            announced: Whether the attempt did not fail: its node was about to be preempted, or it ended to go on
                with more workers.
        """
        if step > self.step:
            self.failures = 0
        self.step = step
        self.failures += not announced
        return self.failures <= MOST_FAILURES
