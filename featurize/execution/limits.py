"""Limits on the memory of a child process that reads untrusted input.

Nothing here imports pyarrow: its memory pool is chosen, by a variable of the environment, when it is imported.
"""

import os
import pickle
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

from featurize.execution.child_process import Death


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
    _limit_memory(memory)
    return function(*arguments)


def _limit_memory(more: int) -> None:
    """Let this process use some bytes more than it does now; allocations beyond raise MemoryError or end it.

    The limit is on private data, not on addresses: libraries reserve gigabytes of addresses that they never use. A
    limit that is already lower stays. Systems other than Linux do not have this limit.

    Args:
        more: Bytes beyond those that the process uses now.
    """
    if sys.platform != "linux":
        return
    with open("/proc/self/status", encoding="ascii") as status:
        used = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData:"))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = used + more if hard == resource.RLIM_INFINITY else min(used + more, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def describe_death(death: Death) -> str:
    """Return how a process ended, in a few words."""
    ending = signal.Signals(-death.status).name if death.status < 0 else f"status {death.status}"
    return f"its process ended with {ending}"
