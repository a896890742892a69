"""What a check of this machine found, and the words for it."""

import dataclasses
import time
from typing import Any, Literal

from featurize.execution.subprocess_task import SubprocessTask


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one check has found.

    Attributes:
        name: of the check.
        state: `ok`; `remark` where everything runs, and something is better known; `broken`.
        found: in words.
        advice: what to do, and what to type; empty where it is ok.
    """

    name: str
    state: Literal["ok", "remark", "broken"]
    found: str
    advice: str = ""

    def __str__(self) -> str:
        return (
            f"{self.state:<7} {self.name:<10} {self.found.rstrip('.')}{'. ' if self.advice else ''}{self.advice}"
        )


def wait_for(task: SubprocessTask[str], seconds: float) -> Any:
    """Return what a function apart returned or raised; a TimeoutError where it is at work for too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for _, outcome in task.finished():
            return outcome
    return TimeoutError(f"no answer after {seconds:.0f} s")


def in_one_line(error: Exception) -> str:
    """Return the words of an error, or its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
