"""Limits on the memory of a child process that reads untrusted input.

Nothing here imports pyarrow: its memory pool is chosen, by a variable of the environment, when it is imported.
"""

import os
import pickle
import signal
from collections.abc import Callable
from typing import Any

from featurize.execution.child_process import Death
from featurize.private_memory import limit_private_memory


def limited(memory: int, function: Callable[..., Any], *arguments: object) -> tuple[Any, ...]:
    """Return the arguments of a ChildProcess that runs a function with a limit on its memory.

    Args:
        memory: Bytes that the function may use.
        function: A module-level function or generator function.
        arguments: Its arguments.
    """
    return _run_limited, memory, pickle.dumps((function, arguments))


def _run_limited(memory: int, task: bytes) -> Any:
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # the default one takes a gigabyte in advance
    function, arguments = pickle.loads(task)
    limit_private_memory(memory)
    return function(*arguments)


def describe_death(death: Death) -> str:
    """Return how a process ended, in a few words."""
    ending = signal.Signals(-death.status).name if death.status < 0 else f"status {death.status}"
    return f"its process ended with {ending}"
