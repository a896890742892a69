"""The finding of a check of this machine, and how checks wait for a separate process."""

import dataclasses
import time
from typing import Any, Literal

from featurize.execution.subprocess_task import SubprocessTask


@dataclasses.dataclass(frozen=True)
class Finding:
    """The finding of one check.

    Attributes:
        name: Name of the check.
        state: `ok`; `remark`: works, with a limitation; `broken`: does not work.
        found: Description.
        advice: What to do or type; empty if the state is `ok`.
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
    """Wait for the result of a task in a separate process.

    Args:
        task: Process with one submitted task.
        seconds: Timeout.

    Returns:
        The result of the task, the exception that it raised, or a TimeoutError.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for _, outcome in task.finished():
            return outcome
    return TimeoutError(f"no answer after {seconds:.0f} s")


def in_one_line(error: Exception) -> str:
    """Return the message of an error in one line, or the name of its class if it has no message."""
    return " ".join(str(error).split()) or type(error).__name__
